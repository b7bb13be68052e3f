"""Processes of their own that hold different tools: the builder has root and no key, the signer has keys and no root.

A hand reads one JSON request line from its standard input, writes JSON lines to its standard output ("advance", then
"result" or "error"), and dies when its standard input closes, which happens at the latest when its caller dies.
"""
