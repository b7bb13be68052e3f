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
| `IMAGEFACTORY_DATABASE` | `postgresql://USER@HOST:PORT/NAME`: shared records | `imagefactory.db` in the home |
| `IMAGEFACTORY_POLICY` | the signer's policy | `policy.json` in the home, then `/etc/imagefactory/policy.json` |
| `IMAGEFACTORY_PASSPHRASE_FILE` | a file with the passphrase of the keys, mode 0600 | the keyring, or a prompt |
| `IMAGEFACTORY_TRUST` | the trust file; it must exist | `trust.json` in the home, then `/etc/imagefactory/trust.json` |
| `IMAGEFACTORY_PATH` | folders of programs that come before those of this installation and of `PATH` | none |
| `IMAGEFACTORY_ELEMENTS` | more folders of elements, separated by `:` | none |
| `IMAGEFACTORY_RECIPES` | folders of recipes that workers build, separated by `:`; no others are | none |
| `IMAGEFACTORY_CATALOGUE` | the built-in catalogue: a directory | `catalogue` in the home |
| `IMAGEFACTORY_BROKER` | the RabbitMQ of workers: `amqp[s]://USER@HOST:PORT/VHOST`, without a password | none |
| `IMAGEFACTORY_BROKER_PASSWORD_FILE` | a file with its password, which only you can read | none |
| `IMAGEFACTORY_STORE` | where hosts share artifacts: a directory, or `s3://BUCKET/PREFIX` | none |
| `IMAGEFACTORY_NOTIFY` | who is told of what: [notifications](notifications.md) | nobody is told |
| `http_proxy`, `https_proxy`, `no_proxy` | handed to the programs that fetch packages | none |

The password of PostgreSQL is never in `IMAGEFACTORY_DATABASE`: it is where PostgreSQL's own programs look for it, in
`~/.pgpass` or in the file that `PGPASSFILE` names, readable for its owner only. The host may be the directory of a
socket, its `/` written as `%2F`. Options of libpq may follow after `?`, with `&` between them: `sslmode`,
`channel_binding`, and absolute paths in `sslrootcert`, `sslcert`, `sslkey`, `sslcrl`, `passfile`.

Paths in these variables are absolute, and the home has no white space, `:` or characters of the shell in it. Programs
that imagefactory starts see `PATH`, a locale, the time zone UTC and the proxies, and nothing else of the environment;
those that run as root do not see the caller's `PATH`.
"""
RECIPE = """\
# Recipe

A recipe is a YAML 1.2 file that describes one image. `imagefactory recipe check FILE` checks one, `imagefactory recipe
schema` prints the JSON Schema of this page for editors. An unknown key is an error, with the file, the line and the
nearest known key.

Sizes and durations have a unit: `512 MiB`, `4 GiB` (B, KiB, MiB, GiB, TiB), `90s`, `20m`, `2h`, `30d`, or in words
`20 minutes`, `30 days`, `2 weeks`. Paths count from the folder of the file that writes them. A recipe holds no secret:
it is published with its image, in the provenance.

With `extends` the other recipe is read first. Mappings are merged and this file wins; a list replaces the other list;
a null removes what the other recipe has. At most eight recipes extend each other, one after the other. A recipe that
extends another may leave out what that one says.

`formats.iso` is understood and refused for now (`format-unsupported`).

[Properties](properties.md) says which Glance properties a release gets by itself, and which a recipe writes. What `os`
may be is in [distributions](distributions.md), what a `base` may be like in
[start from your image](../how-to/start-from-your-image.md), how to use `compliance` in
[harden an image](../how-to/harden-and-score.md), how to write its `exceptions` in
[accept an exception](../how-to/accept-an-exception.md), and which feeds `vulnerabilities` understands in
[know its vulnerabilities](../how-to/know-its-vulnerabilities.md). What a check of `tests.guest` sees, and
what `tests.boot.upgrade` does, is in [check what you promise](../how-to/check-what-you-promise.md).
"""

PROPERTIES = """\
# Properties

What an image says about itself in Glance. The properties of a release are signed in its manifest. Those that can be
proved are made from the evidence of its build; a recipe writes the others, under `properties`.

```console
$ imagefactory properties check recipes/soe-debian-12.yaml
KEY                  VALUE     FROM
...
min_ram              1024      boot test: memory
...
os_purpose           generic   recipe: properties
...
SCS-0102: everything mandatory is there
```

`properties show` shows the same table and judges nothing. Both take a release instead of a recipe, `NAME` or
`NAME@VERSION`.

A recipe may write any property, and is believed where no evidence speaks against it. What the rest of the recipe
contradicts already (less memory than the boot test has, a smaller disk, firmware that is not tested) is refused by
`plan` and `build` before any work, everything else before it is signed: `property-contradicted`. A value of the wrong
form is refused when the recipe is read: `property-invalid`.

A recipe writes at most 80 properties, and a release carries at most 100. Keys are letters, digits and `_ . : -`, a
letter first; values are one line of at most 4096 characters. Keys that begin with `os_glance`, `img_signature`,
`imagefactory_` or `os_hash_` are reserved, and Glance's own attributes, such as `name` and `visibility`, belong to the
publication.

SCS-0102 is the image metadata standard of Sovereign Cloud Stack, here in version 2. Where something is missing that it
makes mandatory, `properties check` fails with `properties-incomplete`. A build does not mind.

[Why they are what they are](../explanation/properties.md) has the reasons.
"""
PROPERTIES_TYPED = """\
Nova can enforce Secure Boot on `q35` machines only, which are not everywhere the default: beside `os_secure_boot:
required` write `hw_machine_type: q35`.

## What a recipe says

Other properties hold any text, and are the recipe's own word. A day in `provided_until` or `uuid_validity` must lie 90
days or more before the end of the Glance certificate, because Nova checks its dates. Otherwise the signer refuses with
`certificate-expired`, before the first step of a build.
"""
PROPERTY_DEFAULTS = {"image_source": "`private`", "image_description": "the recipe's `description`, on one line"}

VERIFICATION = """\
# Verification

Two commands verify by the same rules and print the same: `imagefactory verify TARGET`, and `imagefactory-verify
FILE|FOLDER`, which needs the base install alone and no network.

    imagefactory-verify FILE|FOLDER [--trust FILE] [--manifest FILE] [--name NAME] [--min-version VERSION]
                        [--explain] [--json]

The trust file of `imagefactory-verify` is `--trust`, else `IMAGEFACTORY_TRUST` (an absolute path), else
`/etc/imagefactory/trust.json`. Exit codes: 0 proved, 1 refused, 2 wrong usage.

The answer is a proof or an error with a [code](errors.md): by which key (`keyid`), when (`created`), until when
(`expires`), which evidence the makers had, with its outcome and what it is about (`evidence`), and which files were
verified (`files`). `--explain` shows each rule below and how it came out: `passed`, `refused` with the code, `does not
apply`, or `not reached`. The document of `--json` has the same in `rules`, beside `verified` or `error`.

Programs in Python call `verify_manifest`, then `verify_file` with an open file, or `verify_folder`; each returns what
it proved or raises. They find an example in [verify before you boot](../how-to/verify-before-boot.md).

## The rules

The first sentence of each is what `--explain` shows.
"""
VERIFICATION_DOCUMENTS = """\
## The documents

What the rules above rest on, from the modules that check it.
"""
METRICS = """\
# Metrics

What `/metrics` of a worker says, for Prometheus. Jobs, queues, releases, keys and schedules are read from the records
when somebody asks, and are the same at each worker that shows them; the others count what one process did since it
began. Times are seconds since 1970. What cannot be read is left out, and `imagefactory_facts_readable` says so.

A step or a code that is not known counts as `other`, and a metric has at most 1000 series.
"""
NOTIFICATIONS = """\
# Notifications

`IMAGEFACTORY_NOTIFY` names a YAML file that says who is told of what. Nobody but its owner may write to it. Secrets are
in files of their own, of mode 0600. An unknown key is an error, with the file, the line and the nearest known key.

```yaml
webhooks:
  - name: chat
    url: https://hooks.example.org/imagefactory
    secrets: [/etc/imagefactory/chat.secret]
    events: [job.failed, schedule.paused]
mail:
  - name: team
    server: mail.example.org
    user: imagefactory
    password_file: /etc/imagefactory/mail.password
    sender: imagefactory@example.org
    to: [team@example.org]
```

| event | type | subject |
|---|---|---|
| `job.failed` | `imagefactory.job.failed.v1` | the name of the image |
| `release.published` | `imagefactory.release.published.v1` | the name of the image |
| `schedule.paused` | `imagefactory.schedule.paused.v1` | the name of the schedule |
| `expiry.soon` | `imagefactory.expiry.soon.v1` | the id of the key; 30, 7 and 1 days before, and at the end |

A webhook gets a CloudEvent 1.0 as structured JSON: `data` has `title`, `what`, `where`, `advice` and the facts of the
event. It is signed by the rules of Standard Webhooks, with each secret in `secrets`: to change one, list the new one
beside the old, change the receiver, and take the old one away. `openssl rand -base64 32` makes a secret; the file may
have `whsec_` before it.

Events are told at least once. The same event always has the same id, in `webhook-id`, in `id` and in the mail's
`Message-ID`. An answer of 408, 425, 429 or 5xx, or none, is tried again, four times in all; others are not. Redirects
are not followed, nor is a proxy used, and nothing of an answer is read but its head.
"""
