"""The delivery of mails."""

from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

from notifications import delivery, retention
from notifications.mailer import MailUnavailable
from notifications.quota import seconds_to_wait


# Some twelve hours of tries, for a mail server that is down over night.
@shared_task(
    bind=True,
    atomic=False,
    autoretry_for=(MailUnavailable, SoftTimeLimitExceeded),
    retry_backoff=5,
    retry_backoff_max=3600,
    max_retries=30,
)
def deliver_message(self: Any, message_id: str) -> None:
    """Give the message to the mail server, and record what came of it."""
    with self.before_call():
        if wait := seconds_to_wait(message_id=message_id):
            raise self.snooze(wait)
        message = delivery.begin_attempt(message_id=message_id)
    refusal = delivery.attempt_delivery(message)
    with self.completion() as done:
        done.result = delivery.settle_delivery(message_id=message_id, refusal=refusal)


@shared_task
def give_up_message(job_id: str, message_id: str) -> None:
    """The errback of `deliver_message`, whatever ended it: retries, its time limit, a killed worker."""
    delivery.record_loss(message_id=message_id)


@shared_task
def forget_old_messages() -> int:
    """Delete the old messages of the active schema. Returns how many."""
    return retention.forget_old_messages()
