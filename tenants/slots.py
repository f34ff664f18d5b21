"""Who may make a schema: at most SCHEMAS_AT_A_TIME do at once, in the whole installation.

Making one keeps a worker's child busy for seconds. Without a bound, sign-ups could keep every child from other tenants'
jobs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from tenants.connection import connection, execute, fetch_one
from tenants.models import SignUp, Tenant

# The first half of the advisory lock of a slot. The second half is the slot's number.
SLOTS_LOCK = 0x7E4E
#: Seconds for which whoever finds no slot waits for itself, and for each sign-up before it in line
PAUSE = 1


class NoSlot(Exception):
    """Others make as many schemas as may be made at once."""


@contextmanager
def making_slot(*, wait: bool) -> Iterator[None]:
    """Hold a slot while a schema is made. If none is free, wait for one, or raise NoSlot.

    Call it within `connection.direct()`, outside of a transaction. It closes the connection at the end, which frees the
    slot. So does the end of the process.
    """
    if not _take_free_slot():
        if not wait:
            raise NoSlot
        execute("SELECT pg_advisory_lock(%s, 0)", [SLOTS_LOCK])
    try:
        yield
    finally:
        connection.close()


def _take_free_slot() -> bool:
    return any(_take(slot) for slot in range(settings.SCHEMAS_AT_A_TIME))


def _take(slot: int) -> bool:
    [taken] = fetch_one("SELECT pg_try_advisory_lock(%s, %s)", [SLOTS_LOCK, slot])
    return bool(taken)


def seconds_in_line(tenant_id: str | None = None) -> float:
    """For how long a tenant that found no slot should wait until it tries again; without a tenant, the last in line.

    The more sign-ups are before it, the longer. So workers are asked a few times a second, however long the line is.
    """
    before = SignUp.objects.filter(tenant__status=Tenant.Status.PROVISIONING)
    if tenant_id:
        before = before.filter(tenant_id__lt=tenant_id)
    return float(PAUSE * (1 + before.count() / settings.SCHEMAS_AT_A_TIME))
