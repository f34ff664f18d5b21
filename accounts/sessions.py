"""The sessions of the platform's staff. They are in the public schema."""

import uuid

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session


def end_sessions(user_id: uuid.UUID) -> None:
    """End those of one user for good, in the transaction of the caller. There are few: it reads them all."""
    ended = [session.pk for session in Session.objects.all() if session.get_decoded().get(SESSION_KEY) == str(user_id)]
    Session.objects.filter(pk__in=ended).delete()
