"""ssh into a machine under test: one key, one known host key, nothing of the user's own configuration."""

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imagefactory.errors import ProgramFailed
from imagefactory.tools import process

ALIAS = "guest"
CONNECT_SECONDS = 60  # a guest in software emulation takes its time for the key exchange
PAUSE = 1.0  # seconds between two attempts
# What a guest can make our ssh take. It answers in a few KiB.
LIMITS = process.Limits(memory=1 << 30, cpu=600, file_size=1 << 20, output=1 << 20)
SSH_FAILED = 255  # ssh's own status: no connection, or not let in

_HOST_KEY = re.compile(r"(?:ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) [A-Za-z0-9+/]{60,}={0,2}")
_DENIED = re.compile(r"Permission denied \(([a-z0-9,.@-]+)\)")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_KEYS_OF = re.compile(r"[Aa]uthorized keys from \S+ for user ([^\s+|]+)")


def host_keys(text: str) -> tuple[str, ...]:
    """The public ssh host keys ("TYPE BASE64") in a text, as cloud-init prints them on the console."""
    return tuple(sorted(set(_HOST_KEY.findall(text))))


def default_user(text: str) -> str | None:
    """The user that cloud-init says it gave the key to."""
    for name in _KEYS_OF.findall(text):
        if name != "root" and _USER.fullmatch(name):
            return str(name)
    return None


@dataclass(frozen=True)
class Guest:
    """How to log in to a guest: the `user`, its private `key`, and a file of `known_hosts`.

    `port` below is the local TCP port that is forwarded to the guest, `deadline` a monotonic time; `watch` is called
    while we wait and may raise.
    """

    user: str
    key: Path
    known_hosts: Path
    environment: Mapping[str, str]

    def named(self, user: str) -> "Guest":
        """The same with another user."""
        return replace(self, user=user)

    def know(self, keys: Sequence[str]) -> None:
        """From now on the guest must show one of these host keys."""
        self.known_hosts.write_text("".join(f"{ALIAS} {key}\n" for key in keys))

    def ask(
        self, port: int, script: str, *, deadline: float, watch: Callable[[], None], arguments: Sequence[str] = ()
    ) -> str:
        """What a shell script prints in the guest, raw, at most as much as LIMITS let it. Tries until it gets in.

        Raises ProgramFailed when the script fails or says too much, or the guest does not let us in; ProgramTimeout
        when the script takes too long.
        """
        options = ["-o", "PreferredAuthentications=publickey", "-i", str(self.key)]
        while True:
            answer = self._ssh(port, options, ["sh", "-s", "--", *arguments], script.encode(), deadline, watch)
            if answer.returncode == 0:
                return answer.stdout.decode(errors="replace")
            if answer.returncode != SSH_FAILED or time.monotonic() + PAUSE > deadline:
                lines = self._said() or process.printable(answer.stdout)
                raise ProgramFailed(f"ssh to the guest ended with status {answer.returncode}", lines=lines)
            pause = time.monotonic() + PAUSE
            while time.monotonic() < pause:
                watch()
                time.sleep(process.POLL)

    def methods(self, port: int, *, deadline: float, watch: Callable[[], None]) -> frozenset[str]:
        """The ways to log in that the guest offers to somebody without a key, such as {"publickey", "password"}.

        Raises ProgramFailed when it does not say.
        """
        options = ["-o", "PreferredAuthentications=none", "-o", "PubkeyAuthentication=no"]
        answer = self._ssh(port, options, ["true"], b"", deadline, watch)
        if answer.returncode == 0:
            return frozenset({"none"})
        said = self._said()
        for line in said:
            if denied := _DENIED.search(line):
                return frozenset(denied[1].split(","))
        raise ProgramFailed(f"ssh to the guest ended with status {answer.returncode}", lines=said)

    def _ssh(
        self,
        port: int,
        options: list[str],
        command: list[str],
        input_: bytes,
        deadline: float,
        watch: Callable[[], None],
    ) -> process.Completed:
        self._log.write_bytes(b"")
        argv = ["ssh", "-F", "/dev/null", "-E", str(self._log), "-a", "-x", "-T", "-p", str(port)]
        settings = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ControlMaster": "no",
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": ALIAS,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "ServerAliveInterval": "15",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "UserKnownHostsFile": str(self.known_hosts),
        }
        for name, value in settings.items():
            argv += ["-o", f"{name}={value}"]
        argv += [*options, "--", f"{self.user}@127.0.0.1", shlex.join(command)]
        left = max(1.0, deadline - time.monotonic())
        return process.run(
            argv,
            env=self.environment,
            timeout=left,
            input_=input_,
            limits=LIMITS,
            accept=range(256),
            on_poll=watch,
        )

    def _said(self) -> tuple[str, ...]:
        return process.tail(self._log)

    @property
    def _log(self) -> Path:
        return self.known_hosts.with_name("ssh.log")
