"""How many limited messages go: those to addresses that nobody has confirmed, and those with a link.

What strangers ask for has a budget of its own: it never uses up what the organisation's people need.
"""

from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from notifications.models import Message
from tenants.connection import connection, execute
from tenants.services import current_tenant

#: Once the organisation is confirmed, an address gets UNCONFIRMED_MAILS in this time.
PERIOD = timedelta(days=1)
#: So many of those that strangers ask for go to an address within PERIOD, whatever the organisation is.
MAILS_BY_STRANGERS = 5
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
TRIED = Q(attempts__gt=0)
#: A link is asked for (`may_send_link`) when it is written, so its message has a place from then on.
PROMISED = Q(attempts=0, status=Message.Status.QUEUED) & ~Q(secret_name="")


def may_send_link(*, to: str, by_stranger: bool = False) -> bool:
    """Whether one more message with a link may go to this address. Nobody else counts until the caller's transaction
    ends, so one that the caller writes will go.
    """
    return not _is_used_up(to=to, by_stranger=by_stranger, taken=TRIED | PROMISED)


def is_beyond_limit(message: Message) -> bool:
    """Whether too many like it went before it is tried. Nobody else counts until the caller's transaction ends."""
    before = PROMISED & Q(pk__lt=message.pk) if message.secret_name else PROMISED
    return _is_used_up(to=message.to, by_stranger=message.by_stranger, taken=TRIED | before)


def _is_used_up(*, to: str, by_stranger: bool, taken: Q) -> bool:
    execute(LOCK, [f"notifications {connection.schema_name}"])
    messages = Message.objects.filter(taken, is_limited=True, by_stranger=by_stranger)
    lately = messages.filter(to__iexact=to, created_at__gt=timezone.now() - PERIOD)
    if by_stranger and lately.count() >= MAILS_BY_STRANGERS:
        return True
    counted = lately if current_tenant().is_confirmed else messages
    return bool(counted.count() >= settings.UNCONFIRMED_MAILS)
