"""The delivery of mails."""

from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

from notifications import delivery
from notifications.mailer import MailUnavailable


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
    last_try = self.request.retries >= self.max_retries
    with self.before_call():
        message = delivery.begin_attempt(message_id=message_id)
    refusal = delivery.attempt_delivery(message, last_try=last_try)
    with self.completion() as done:
        done.result = delivery.settle_delivery(message_id=message_id, refusal=refusal)
