"""For how long mails are kept: MESSAGE_DAYS."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from notifications.models import Message


def forget_old_messages() -> int:
    """Delete the messages of the active schema that were written MESSAGE_DAYS ago. Returns how many."""
    written_until = timezone.now() - timedelta(days=settings.MESSAGE_DAYS)
    # A job is about to send what is queued.
    ended = Message.objects.filter(created_at__lte=written_until).exclude(status=Message.Status.QUEUED)
    deleted, _ = ended.delete()
    return deleted
