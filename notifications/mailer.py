"""The way out to the mail server (EMAIL_URL), and its errors in two kinds."""

import smtplib

from django.core.mail import EmailMultiAlternatives

from notifications.models import Message


class MailUnavailable(Exception):
    """No mail server took the message just now; another try may help."""


class MailRefused(Exception):
    """This message can't be delivered, however often it is tried."""


def transmit(message: Message) -> None:
    """Hand the message to the mail server. Raises MailUnavailable or MailRefused."""
    headers = {"Message-ID": message.message_id, "Auto-Submitted": "auto-generated"}
    mail = EmailMultiAlternatives(subject=message.subject, body=message.text, to=[message.to], headers=headers)
    mail.attach_alternative(message.html, "text/html")
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused as error:
        raise _verdict(*error.recipients[message.to]) from error
    except smtplib.SMTPDataError as error:
        raise _verdict(error.smtp_code, error.smtp_error) from error
    except OSError as error:
        raise MailUnavailable(f"{type(error).__name__}: {error}; check EMAIL_URL if this stays") from error
    except ValueError as error:
        raise MailRefused(f"This is no mail: {error}") from error


def _verdict(code: int, answer: bytes | str) -> Exception:
    """SMTP answers 5xx to what it will never take, 4xx to what it may take later (a full, a grey-listed mailbox)."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    kind = MailRefused if code >= 500 else MailUnavailable
    return kind(f"{code} {text}")
