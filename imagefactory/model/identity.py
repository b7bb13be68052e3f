"""What one machine was, and no image made from it may be: who may log in to it, and what it was told apart by.

Paths are those of a root file system, without a slash at the front.
"""

import re
from typing import Final

# Counts in the digest of the inputs: raise it when a change here or in steps/base.py alters what comes out of a base.
REVISION: Final = 1

LARGEST_REWRITTEN: Final = 1 << 20  # bytes; the shadow file of 10,000 users has half of that

_LEFT_OUT: Final = re.compile(
    # What is there only while a machine runs.
    r"swapfile|swap\.img|(?:proc|sys|dev|run|tmp|var/tmp|var/log/journal|var/cache/apt/archives)/.+|lost\+found(?:/.*)?|etc/resolv\.conf(?:\.ORIG)?"
    # Who may log in, and what was typed.
    r"|(?:.+/)?\.(?:ssh|gnupg)(?:/.*)?|(?:.+/)?\.[a-z_]+_history|etc/ssh/authorized_keys(?:\..*|/.+)?"
    r"|etc/(?:passwd|shadow|group|gshadow|subuid|subgid)-|etc/apt/auth\.conf(?:\.d/.+)?"
    # What a machine is told apart by.
    r"|etc/ssh/ssh_host_.+|var/lib/(?:dbus/machine-id|systemd/random-seed|systemd/credential\.secret)"
    r"|etc/udev/rules\.d/(?:70|85)-persistent-.+"
    # What cloud-init and DHCP made of an instance.
    r"|var/lib/cloud/.+|etc/sudoers\.d/90-cloud-init-users|etc/netplan/50-cloud-init\.yaml"
    r"|etc/network/interfaces\.d/50-cloud-init(?:\.cfg)?|etc/systemd/network/\d\d-cloud-init-.+"
    r"|etc/NetworkManager/system-connections/cloud-init-.+|var/lib/(?:dhcp|NetworkManager)/.+",
    re.DOTALL,
)
_EMPTIED: Final = frozenset(("etc/machine-id", "etc/security/opasswd"))
_LOCKED: Final = "!"


def is_left_out(path: str) -> bool:
    """Whether `path` is no part of an image."""
    return _LEFT_OUT.fullmatch(path) is not None


def is_rewritten(path: str) -> bool:
    """Whether `path` has another content in an image: see `rewrite`."""
    return path in {*_EMPTIED, "etc/passwd", "etc/shadow", "etc/gshadow"}


def rewrite(path: str, content: bytes) -> bytes:
    """What the file at `path` holds in an image: no machine-id, and no password, nor an old
    one. Locked accounts stay locked."""
    if path in _EMPTIED:
        return b""
    return b"".join(_without_password(path, line) for line in content.splitlines(keepends=True))


def _without_password(path: str, line: bytes) -> bytes:
    """A line of passwd(5), shadow(5) or gshadow(5) with a second field that lets nobody in."""
    name, colon, rest = line.rstrip(b"\r\n").partition(b":")
    password, second, others = rest.partition(b":")
    if not colon:
        return line
    if path == "etc/passwd":
        password = b"x"
    elif password != b"*":
        password = _LOCKED.encode()
    return name + colon + password + second + others + line[len(line.rstrip(b"\r\n")) :]
