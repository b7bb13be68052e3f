"""Licences of Debian packages, as their copyright files name them.

Format of the files: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ (DEP-5). They come from inside
an image, so nothing about them is believed. python-debian's deb822 reads the three fields that matter; its `copyright`
module finds the same, and takes seven times as long and more memory.
"""

from debian.deb822 import Deb822

MAX_LICENCES = 100  # a package with more is a collection, whose list would help nobody
MAX_NAME = 200  # characters


def licences(copyright_file: bytes) -> tuple[str, ...]:
    """The licences of the files that a copyright file speaks of, as it names them, sorted.

    None of them, when the file is not machine-readable, names a licence that is no name, or more than 100.
    """
    # Lines: python-debian would take a text of one line for the name of a file.
    text = copyright_file.decode(errors="replace").splitlines()
    wanted = ["Format", "Files", "License"]
    paragraphs = Deb822.iter_paragraphs(text, use_apt_pkg=False, fields=wanted)
    if "Format" not in next(paragraphs, {}):
        return ()
    names = {each["License"].partition("\n")[0].strip() for each in paragraphs if "Files" in each and "License" in each}
    names.discard("")
    usable = len(names) <= MAX_LICENCES and all(name.isprintable() and len(name) <= MAX_NAME for name in names)
    return tuple(sorted(names)) if usable else ()
