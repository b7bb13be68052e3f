"""A mail server on loopback that takes what it is told to take.

with FakeSmtp(certificates=folder) as server:
    ...
server.mails[0].recipients
"""

import base64
import socketserver
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass
class Mail:
    """What was handed over: the envelope, the text, and whether the connection was encrypted."""

    sender: str
    recipients: list[str] = field(default_factory=list)
    text: bytes = b""
    encrypted: bool = False
    login: str = ""


class FakeSmtp:
    """Listens on a free port of loopback while it is entered. `instead` has answers to commands by their first word,
    each of them for one time; with `certificates` (ca.pem, key.pem) there is STARTTLS, or TLS from the beginning."""

    def __init__(
        self, certificates: Path | None = None, *, tls: bool = False, greeting: bytes = b"220 here\r\n"
    ) -> None:
        self.mails: list[Mail] = []
        self.commands: list[str] = []
        self.instead: dict[str, list[bytes]] = {}
        self.greeting = greeting
        self.tls = tls
        self.context: ssl.SSLContext | None = None
        if certificates is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificates / "ca.pem", certificates / "key.pem")
        fake = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                _Session(fake, self.request).run()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                pass  # who has heard enough closes the connection

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Session:
    def __init__(self, fake: FakeSmtp, connection: Any) -> None:  # noqa: ANN401 - a socket, wrapped or not
        self._fake = fake
        self._connection = connection
        self._encrypted = False
        self._login = ""
        self._mail = Mail("")
        self._stream: Any = None

    def run(self) -> None:
        try:
            self._talk()
        finally:
            if self._stream is not None:
                self._stream.close()
            self._connection.close()

    def _talk(self) -> None:
        self._connection.settimeout(10)
        if self._fake.tls:
            self._secure()
        self._say(self._fake.greeting)
        self._stream = self._connection.makefile("rb")
        while line := self._stream.readline():
            command = line.decode().strip()
            self._fake.commands.append(command)
            word = command.split(" ")[0].upper()
            forced = self._fake.instead.get(word, [])
            if forced:
                self._say(forced.pop(0))
            elif word == "STARTTLS":
                self._say(b"220 go\r\n")
                self._secure()
                self._stream = self._connection.makefile("rb")
            elif word == "DATA":
                self._say(b"354 go\r\n")
                self._mail.text = b"".join(iter(self._stream.readline, b".\r\n"))
                self._fake.mails.append(self._mail)
                self._say(b"250 taken\r\n")
            else:
                self._say(self._answer(word, command))

    def _answer(self, word: str, command: str) -> bytes:
        if word == "EHLO":
            start = b"" if self._encrypted or self._fake.context is None else b"250-STARTTLS\r\n"
            return b"250-here\r\n" + start + b"250 AUTH PLAIN\r\n"
        if word == "AUTH":
            self._login = base64.b64decode(command.split(" ")[2]).decode()
            return b"235 welcome\r\n"
        if word == "MAIL":
            self._mail = Mail(command, encrypted=self._encrypted, login=self._login)
        if word == "RCPT":
            self._mail.recipients.append(command)
        known: Mapping[str, bytes] = {"QUIT": b"221 bye\r\n"}
        return known.get(word, b"250 ok\r\n")

    def _secure(self) -> None:
        if self._fake.context is None:
            raise AssertionError("there are no certificates")
        self._connection = self._fake.context.wrap_socket(self._connection, server_side=True)
        self._encrypted = True

    def _say(self, text: bytes) -> None:
        self._connection.sendall(text)
