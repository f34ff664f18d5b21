"""How many limited messages go: those to addresses that nobody has confirmed, and those with a link.

What strangers ask for has a budget of its own: it never uses up what the organisation's people need. An address that
nobody has confirmed gets so many a day from all organisations together (the policy `unconfirmed_recipient`), because
whoever wants to flood somebody signs up many.
"""

import hashlib
import logging
from datetime import timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.utils import timezone

from limits.rates import count, longest_wait
from notifications.models import Message
from tenants.connection import connection, execute
from tenants.services import current_tenant
from tenants.text import fold_mailbox

logger = logging.getLogger("tenantry.mails")

#: Once the organisation is confirmed, an address gets UNCONFIRMED_MAILS in this time.
PERIOD = timedelta(days=1)
#: So many of those that strangers ask for go to an address within PERIOD, whatever the organisation is.
MAILS_BY_STRANGERS = 5
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
#: What has a place: messages that were tried, and links that were promised one.
TAKEN = Q(attempts__gt=0) | Q(is_promised=True, status=Message.Status.QUEUED)

# The limits, by the names that the log has
OF_ORGANISATION, OF_STRANGERS, OF_RECIPIENT = "unconfirmed_mails", "mails_by_strangers", "unconfirmed_recipient"


def lock_places() -> None:
    """Let nobody else in this schema take a place, or look for one, until the caller's transaction ends."""
    execute(LOCK, [f"notifications {connection.schema_name}"])


def take_place(*, to: str, by_stranger: bool = False) -> str:
    """Take a place among the limited messages to this address, for one that the caller's transaction writes or tries.

    Returns the name of the limit that leaves none, or "". A link's message that got one before it is written says so by
    `is_promised`. A rollback does not give back what was counted for the address in all organisations.
    """
    lock_places()
    messages = Message.objects.filter(TAKEN, is_limited=True, by_stranger=by_stranger)
    lately = messages.filter(to__iexact=to, created_at__gt=timezone.now() - PERIOD)
    if by_stranger and lately.count() >= MAILS_BY_STRANGERS:
        return OF_STRANGERS
    counted = lately if current_tenant().is_confirmed else messages
    if counted.count() >= settings.UNCONFIRMED_MAILS:
        return OF_ORGANISATION
    # Counted last: what is refused in here takes nothing away elsewhere.
    return "" if is_confirmed(to) or not _is_flooded(to) else OF_RECIPIENT


def is_confirmed(to: str) -> bool:
    """Whether the address is a user's who has confirmed it. For nobody's, a confirmed organisation answers."""
    of_users = list(get_user_model().objects.with_email(to).values_list("is_confirmed", flat=True))
    return any(of_users) if of_users else current_tenant().is_confirmed


def _is_flooded(to: str) -> bool:
    """Count one more for the mailbox, in all organisations. Whether these are too many."""
    mailbox = hashlib.sha256(fold_mailbox(to).encode(errors="surrogatepass")).hexdigest()[:32]
    return longest_wait(count({OF_RECIPIENT: mailbox})) is not None


def log_refusal(*, to: str, limit: str, address: str | None = None) -> None:
    """Tell the operator of a mail that a limit holds back; `address` is the client's who asked for it, if known."""
    told = {"account": to, "tenant": current_tenant().slug, "limit": limit, "address": address}
    logger.warning("mail refused", extra=told)
