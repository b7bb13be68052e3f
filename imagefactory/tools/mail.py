"""Mail: an event in plain text, for people."""

import smtplib
import socket
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

from imagefactory.errors.service import NotifyRefused, NotifyUnreachable
from imagefactory.model.event import Event
from imagefactory.model.notify import MailChannel
from imagefactory.model.plain_text import printable
from imagefactory.tools.notify_file import mail_password
from imagefactory.tools.short_talk import connected, trust_in

DEADLINE: Final = 60.0  # seconds for all of it
MOST_ANSWERS: Final = 1 << 16  # bytes that a server may say
MOST_SUBJECT: Final = 150  # characters


def compose(channel: MailChannel, event: Event) -> EmailMessage:
    """What happened, where, and what to do. The same event is the same message, for programs that show it once."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = channel.sender
    mail["To"] = ", ".join(channel.to)
    mail["Subject"] = printable(event.title, MOST_SUBJECT)
    mail["Date"] = format_datetime(event.at)
    mail["Message-ID"] = f"<{event.id}@{channel.sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    facts = "".join(f"{key}: {value}\n" for key, value in event.facts.items())
    told = f"{event.what}\n\nWhere: {event.where}\nWhen: {event.at:%Y-%m-%d %H:%M:%S %Z}\nWhat to do: {event.advice}\n"
    mail.set_content(f"{told}\n{facts}event: {event.kind.type} {event.id}\n", cte="quoted-printable")
    return mail


def send(channel: MailChannel, event: Event, deadline: float = DEADLINE) -> None:
    """Hand a mail to its server, once. Raises NotifyInvalid, NotifyUnreachable, NotifyRefused."""
    password = mail_password(Path(channel.password_file)) if channel.password_file else None
    context = trust_in(channel.ca)
    try:
        _talk(channel, compose(channel, event), password, context, deadline)
    except ssl.SSLCertVerificationError as error:
        raise NotifyRefused(f"{channel.name}: its certificate is not believed: {error.verify_message}") from None
    except smtplib.SMTPNotSupportedError:
        raise NotifyRefused(f"{channel.name}: its server cannot do what is wanted: TLS, or a password") from None
    except smtplib.SMTPRecipientsRefused as error:
        raise _refused(channel, min(code for code, _ in error.recipients.values())) from None
    except smtplib.SMTPResponseException as error:
        raise _refused(channel, error.smtp_code) from None
    except (OSError, smtplib.SMTPException) as error:
        raise NotifyUnreachable(f"{channel.name} does not answer: {type(error).__name__}") from None


def _talk(
    channel: MailChannel, mail: EmailMessage, password: str | None, context: ssl.SSLContext, deadline: float
) -> None:
    """Raises OSError, SMTPException."""
    with connected(channel.server, channel.at, deadline) as plain:
        secured = channel.tls == "tls"
        taken = context.wrap_socket(plain, server_hostname=channel.server) if secured else plain
        server = _Server(taken, channel.server, channel.at)
        try:
            code, words = server.ehlo()
            if not 200 <= code < 300:  # smtplib would go on without TLS, and say that there is none
                raise smtplib.SMTPHeloError(code, words)
            if channel.tls == "starttls":
                server.starttls(context=context)
            if channel.user is not None and password is not None:
                server.login(channel.user, password)
            refused = server.send_message(mail)
            if refused:
                raise smtplib.SMTPRecipientsRefused(refused)
            with suppress(OSError, smtplib.SMTPException):  # the mail is theirs already
                server.quit()
        finally:
            server.close()


def _refused(channel: MailChannel, code: int) -> NotifyRefused | NotifyUnreachable:
    kind = NotifyUnreachable if 400 <= code < 500 or code < 0 else NotifyRefused
    return kind(f"{channel.name}: its server answers {code}")


class _Answers:
    """What a server says, but not without end."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - a file of bytes
        self._stream = stream
        self._left = MOST_ANSWERS

    def readline(self, most: int) -> bytes:
        line: bytes = self._stream.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise OSError("too many words")
        return line

    def close(self) -> None:
        self._stream.close()


class _Server(smtplib.SMTP):
    """Talks through a connection that is there already."""

    def __init__(self, connection: socket.socket, host: str, port: int) -> None:
        self._connection = connection
        super().__init__(host, port, local_hostname="[127.0.0.1]")

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        del host, port, timeout
        return self._connection

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Answers(self.sock.makefile("rb"))
        return super().getreply()
