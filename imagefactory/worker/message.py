"""What a message may be: the id of a task."""

import json
import re

from kombu.message import Message

from imagefactory.worker.frames import REFUSED

TASK = "imagefactory.run"
TASK_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Foreign(Exception):
    """A message that is not one of ours; says why, without a word of the message's own."""


def normalise(message: Message) -> None:
    """Make of a message what we would have sent. Raises Foreign."""
    headers = message.headers
    if REFUSED in headers:
        raise Foreign(headers[REFUSED])
    if headers.get("task") != TASK:
        raise Foreign("it is of another task")
    if message.content_type != "application/json" or message.content_encoding != "utf-8":
        raise Foreign("it is of another type")
    if any(headers.get(name) for name in ("eta", "expires", "group", "retries", "shadow", "stamped_headers")):
        raise Foreign("its headers ask for more than to run")
    task_id = _task_id(message.body)
    message.headers = {"task": TASK, "id": task_id, "argsrepr": f"('{task_id}',)", "kwargsrepr": "{}"}
    message.properties = {}
    message.body = json.dumps([[task_id], {}, {}])


def _task_id(body: str | bytes) -> str:
    """The one that a body names: `[[TASK_ID], {}, {NAME: null, ...}]`. Raises Foreign."""
    try:
        arguments, keywords, embedded = json.loads(body)
        (task_id,) = arguments
    except (ValueError, TypeError, RecursionError):
        raise Foreign("its body is of another form") from None
    if not isinstance(task_id, str) or not TASK_ID.fullmatch(task_id) or not isinstance(arguments, list):
        raise Foreign("it names no task")
    if keywords != {} or not isinstance(embedded, dict) or any(value is not None for value in embedded.values()):
        raise Foreign("its body asks for more than to run")
    return task_id
