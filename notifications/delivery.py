"""The delivery of a message, in two steps: the attempt outside of a transaction, and its outcome inside one."""

from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from notifications.limited import OF_ORGANISATION, log_refusal, take_place
from notifications.mailer import MailRefused, MailUnavailable, transmit
from notifications.models import Message
from tenants.services import current_tenant

NOT_ACTIVE = "The account with this address is not active"
TOO_MANY = (
    "Too many mails were sent to addresses that nobody has confirmed. Let an owner confirm theirs first; "
    "then ask for a new link: POST /api/v1/users/{id}/link/"
)
TOO_MANY_TO_ONE = "This address has got as many links and notices as it may in a day. Ask for a new link a day later."


@transaction.atomic
def begin_attempt(*, message_id: str) -> Message:
    """The message, which is queued and counts one attempt more, unless it was sent already.

    One to somebody who is not active any more, or one of too many, is failed instead.
    """
    message = Message.objects.get(pk=message_id)
    unsent = Message.objects.filter(pk=message_id).exclude(status=Message.Status.SENT)
    if refusal := _refusal(message):
        unsent.update(status=Message.Status.FAILED, error=refusal)
    else:
        unsent.update(status=Message.Status.QUEUED, attempts=F("attempts") + 1)
    message.refresh_from_db()
    return message


def _refusal(message: Message) -> str:
    """Why the message is not tried, or ""."""
    if get_user_model().objects.with_email(message.to).filter(is_active=False).exists():
        return NOT_ACTIVE
    if not message.is_limited or message.is_promised or message.attempts > 0:
        return ""
    limit = take_place(to=message.to, by_stranger=message.by_stranger)
    if not limit:
        return ""
    log_refusal(to=message.to, limit=limit)
    is_of_all = limit == OF_ORGANISATION and not current_tenant().is_confirmed
    return TOO_MANY if is_of_all else TOO_MANY_TO_ONE


def attempt_delivery(message: Message) -> str:
    """Give the message to the mail server, if it is queued. Call it outside of a transaction.

    Returns why it can't be delivered, or "". Raises MailUnavailable when another try may help.
    """
    if message.status != Message.Status.QUEUED:
        return message.error
    try:
        transmit(message)
    except MailRefused as refusal:
        return str(refusal)
    except (MailUnavailable, SoftTimeLimitExceeded) as error:
        _queued(str(message.pk)).update(error=str(error) or type(error).__name__)
        raise
    return ""


def settle_delivery(*, message_id: str, refusal: str) -> dict[str, str]:
    """Make the message sent, or failed if the mail server refused it. Needs the caller's transaction."""
    if refusal:
        _queued(message_id).update(status=Message.Status.FAILED, error=refusal)
    else:
        _queued(message_id).update(status=Message.Status.SENT, error="", sent_at=Now())
    return {"message": message_id, "status": Message.objects.values_list("status", flat=True).get(pk=message_id)}


def record_loss(*, message_id: str) -> None:
    """Make the message failed whose job has died, unless that runs again by now."""
    Message.objects.filter(pk=message_id).fail_lost()


def _queued(message_id: str) -> QuerySet[Message]:
    # Only a queued message changes. A try that a newer one has overtaken must not undo what that one wrote.
    return Message.objects.filter(pk=message_id, status=Message.Status.QUEUED)
