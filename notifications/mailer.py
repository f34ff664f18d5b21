"""The way out to the mail server (EMAIL_URL), and its errors in two kinds."""

import logging
import re
import smtplib
from contextlib import suppress
from email.errors import MessageError
from email.header import Header

from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from jobs.errors import storable
from notifications.models import Message
from notifications.placeholders import fill_in
from tenants.text import normalize_recipient

logger = logging.getLogger(__name__)

#: Characters of a server's answer that are kept.
MAX_ANSWER = 2_000
#: RFC 4954: it refuses a session that has not logged in, and says nothing of the message.
AUTHENTICATION_REQUIRED = 530
#: What fits into a line of 78 characters beside its name, and holds nothing to decode
PLAIN_SUBJECT = re.compile(r"(?!.*=\?)[ -~]{0,69}")
#: Of a server that has read a mail with a secret, and may quote it
WORDS_LEFT_OUT = "(the server's words are left out, because they may quote the mail)"


class MailUnavailable(Exception):
    """No mail server took the message just now; another try may help."""


class MailRefused(Exception):
    """This message can't be delivered, however often it is tried."""


def transmit(message: Message) -> None:
    """Hand the message to the mail server. Raises MailUnavailable or MailRefused."""
    server = _connect()
    try:
        _send(server, message)
    finally:
        # How the session ends says nothing of the message.
        with suppress(OSError):
            server.close()


def _connect() -> BaseEmailBackend:
    """Whatever fails here is the server's fault, or that of our settings: it has not seen the message yet."""
    try:
        server: BaseEmailBackend = get_connection()
        server.open()
    except (OSError, ValueError) as error:
        raise _unavailable(error) from error
    return server


def _send(server: BaseEmailBackend, message: Message) -> None:
    try:
        server.send_messages([_mail(message)])
    except smtplib.SMTPRecipientsRefused as error:
        # There is one recipient. The dict has it in Django's spelling, which may differ from ours.
        [(code, answer)] = error.recipients.values()
        raise _verdict(code, answer) from error
    except smtplib.SMTPSenderRefused as error:
        raise _verdict(error.smtp_code, error.smtp_error) from error
    except smtplib.SMTPDataError as error:
        if message.secret_name:
            raise _verdict(error.smtp_code, WORDS_LEFT_OUT) from None
        raise _verdict(error.smtp_code, error.smtp_error) from error
    except OSError as error:
        raise _unavailable(error) from error
    except (ValueError, MessageError) as error:
        raise MailRefused(f"This is no mail: {error}") from error


def _mail(message: Message) -> EmailMultiAlternatives:
    """Raises ValueError for an address that is no mail's. Of any other, Django hands each character to the server."""
    headers = {"Message-ID": message.message_id, "Auto-Submitted": "auto-generated"}
    text, html = (fill_in(form, message.secret_name) for form in (message.text, message.html))
    mail = EmailMultiAlternatives(
        subject=_subject(message.subject), body=text, to=[_recipient(message.to)], headers=headers
    )
    mail.attach_alternative(html, "text/html")
    return mail


def _recipient(address: str) -> str:
    try:
        return normalize_recipient(address)
    except ValidationError as error:
        raise ValueError(f"{address!r}: {error.messages[0]}") from error


def _subject(text: str) -> str:
    """The text, so that readers see it as it is.

    Django leaves encoded words in it, which readers decode: a client's text must not be one. And it folds a header
    before a first word that is long, so that readers see a space there.
    """
    if PLAIN_SUBJECT.fullmatch(text):
        return text
    # Django takes no header that is folded already. It folds this one between its words.
    return Header(text, "utf-8", header_name="Subject").encode(linesep="")


def _verdict(code: int, answer: bytes | str) -> Exception:
    """SMTP answers 5xx to what it will never take, 4xx to what it may take later (a full, a grey-listed mailbox)."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    kind = MailRefused if code >= 500 and code != AUTHENTICATION_REQUIRED else MailUnavailable
    return kind(storable(f"{code} {text}", MAX_ANSWER))


def _unavailable(error: Exception) -> MailUnavailable:
    # The tenant reads the message's error, and the operator the log: what the system says names hosts and ports.
    logger.warning("No mail server took a mail; check EMAIL_URL if this stays: %r", error)
    return MailUnavailable(f"The mail server can't be reached ({type(error).__name__})")
