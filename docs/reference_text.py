"""What the made reference pages begin with; docs/make_reference.py adds the rest."""

ERRORS = """\
# Errors

Every error has a code that does not change. It stands in brackets at the end of the first line on stderr, and with
`--json` in the document on stdout, under `error.code`, beside `message`, `advice`, `log` and `lines`.

| exit code | means |
|---|---|
| 0 | done |
| 1 | refused, or a step failed |
| 2 | wrong usage, or an invalid recipe |
| 3 | this machine lacks something |
| 4 | a service elsewhere failed |
| 130 | interrupted |

A wrong option, or an argument that is missing, is refused before a verb begins: exit code 2, with no code. An error
from the signing family that happens in the signer's own process keeps its code and has exit code 1.

`no-separation` is a warning: the command was started as root. See [trust](../explanation/trust.md).
"""
CLI = """\
# Command line

`imagefactory VERB`. The answer goes to stdout, progress and errors go to stderr. With `--json` the answer is one JSON
document. Exit codes and error codes: [errors](errors.md).

The environment:

| variable | says | default |
|---|---|---|
| `IMAGEFACTORY_HOME` | where keys, records, artifacts, logs and the catalogue lie | `~/.local/share/imagefactory` |
| `IMAGEFACTORY_TRUST` | the trust file; it must exist | `trust.json` in the home, then `/etc/imagefactory/trust.json` |
| `IMAGEFACTORY_PATH` | folders of programs that come before those of this installation and of `PATH` | none |
| `IMAGEFACTORY_ELEMENTS` | more folders of elements, separated by `:` | none |
| `http_proxy`, `https_proxy`, `no_proxy` | handed to the programs that fetch packages | none |

Paths in these variables are absolute, and the home has no white space, `:` or characters of the shell in it. Programs
that imagefactory starts see `PATH`, a locale, the time zone UTC and the proxies, and nothing else of the environment;
those that run as root do not see the caller's `PATH`.
"""
RECIPE = """\
# Recipe

A recipe is a YAML 1.2 file that describes one image. `imagefactory recipe check FILE` checks one, `imagefactory recipe
schema` prints the JSON Schema of this page for editors. An unknown key is an error, with the file, the line and the
nearest known key.

Sizes and durations have a unit: `512 MiB`, `4 GiB` (B, KiB, MiB, GiB, TiB), `90s`, `20m`, `2h`, `30d`. Paths count
from the folder of the file that writes them. A recipe holds no secret: it is published with its image, in the
provenance.

With `extends` the other recipe is read first. Mappings are merged and this file wins; a list replaces the other list;
a null removes what the other recipe has. At most eight recipes extend each other, one after the other. A recipe that
extends another may leave out what that one says.

These fields are understood and refused for now: `formats.iso` (`format-unsupported`) and `publish` to a cloud
(`target-unsupported`). `properties` is checked and recorded in the provenance, and used by nothing yet.
"""
