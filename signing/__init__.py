"""Keys and bytes, never images: everything imagefactory signs and everything it believes.

The room knows nothing of the rest of the program. Bytes, keys and the time come in as arguments; what goes out is a
value that proves something or an error of the one family in :mod:`signing.errors`. Nothing here starts programs or
talks to a network, and only `command` prints, exits and reads the environment.

From the bottom up:

===========================  ===========================================================================
`errors`                     the one family of errors, each class a meaning
`strict_json`, `fields`      untrusted JSON to plain values, and plain values to checked ones
`digest`                     opening regular files and reading every byte once
`keys`                       one key, one purpose; the key directory
`token_uri`, `token`         which key of which PKCS #11 token, and signing with it
`signer`                     who signs: a Protocol, with keys in files and in tokens behind it
`foreign`                    the same signers as securesystemslib and python-tuf know them
`envelope`                   sigstore bundle v0.3 around one DSSE signature
`statement`                  in-toto Statement v1, its subjects
`properties`                 Glance's properties as a manifest may hold them
`manifest`, `provenance`     the two predicates we make and read
`checksums`                  SHA256SUMS, signed so that `openssl` alone can check it
`certificates`, `glance`     X.509 and the signature that Glance and Nova check
`trust`                      whom we believe
`account`                    how each rule of a verification came out
`verify`                     every rule in order: proof or an error
`command`                    `imagefactory-verify`
===========================  ===========================================================================
"""
