"""Spare schemas: migrated in advance, so that a sign-up has only to rename one."""

import logging
from collections.abc import Collection
from contextlib import suppress

from django.conf import settings
from django.db import transaction
from django_tenants.utils import quote_schema_name

from tenants.connection import connection
from tenants.models import Spare, Tenant
from tenants.schemas import MIGRATION_LOCK, find_missing, lock_schema, make_schema
from tenants.slots import NoSlot, making_slot

logger = logging.getLogger(__name__)

# The advisory lock under which spares are counted
SPARES_LOCK = 0x7E4C


def take_spare(tenant: Tenant) -> bool:
    """Give a new tenant the schema of a spare. Returns False and does nothing if no spare is up to date.

    Needs the caller's transaction. A rollback gives the spare back.
    """
    # The newest is as much up to date as any.
    spare = Spare.objects.select_for_update(skip_locked=True).filter(ready=True).order_by("-pk").first()
    if spare is None or find_missing([spare.schema_name]):
        if settings.SPARE_SCHEMAS:
            logger.warning("No spare schema is ready for %s: its job makes one, which takes longer", tenant.slug)
        return False
    old, new = quote_schema_name(spare.schema_name), quote_schema_name(tenant.schema_name)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER SCHEMA {old} RENAME TO {new}")
    spare.delete()
    return True


def fill_spares() -> int:
    """Make spares until there are SPARE_SCHEMAS, and drop those that can't be used. Returns how many were made.

    It waits for a slot. Call it outside of a transaction. Safe to repeat and to overlap.
    """
    made = 0
    with suppress(NoSlot):
        while made < settings.SPARE_SCHEMAS and make_spare(wait=True):
            made += 1
    return made


def make_spare(*, wait: bool = False) -> bool:
    """Make one spare, and drop those that can't be used. Returns False if enough are ready.

    Raises NoSlot if others make those that are wanted, or, unless it is to wait, if others have all slots. A job that
    gave up then would rely on theirs to end well, so it has to look again.

    Call it outside of a transaction. Safe to repeat and to overlap.
    """
    with connection.direct():
        _drop_unusable()
        if not are_wanted():
            return False
        with making_slot(wait=wait):
            spare = _register_spare()
            make_schema(spare.schema_name)
        Spare.objects.filter(pk=spare.pk).update(ready=True)
    return True


def are_wanted() -> bool:
    """Whether fewer than SPARE_SCHEMAS are ready."""
    return bool(Spare.objects.filter(ready=True).count() < settings.SPARE_SCHEMAS)


def set_ready(schemas: Collection[str], *, ready: bool) -> None:
    """Say of the spares among these schemas whether a sign-up may take them.

    Waits for a sign-up that is just taking one of them. That schema is a tenant's afterwards, and is left alone.
    """
    ids = [spare.pk for spare in Spare.objects.all() if spare.schema_name in schemas]
    Spare.objects.filter(pk__in=ids).update(ready=ready)


def _drop_unusable() -> None:
    """Drop spares that were left half-way, and those that a new version of the code has overtaken."""
    spares = list(Spare.objects.all())
    incomplete = find_missing([spare.schema_name for spare in spares])
    for spare in spares:
        if not spare.ready or spare.schema_name in incomplete:
            _drop(spare)


def _drop(spare: Spare) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        # Whoever holds the migration lock is making the spare. Whoever has locked its row is taking it.
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", [MIGRATION_LOCK, spare.schema_name])
        [is_free] = cursor.fetchone()
        # A spare that has become ready since it was looked at stays, too.
        unchanged = Spare.objects.select_for_update(skip_locked=True).filter(pk=spare.pk, ready=spare.ready)
        if is_free and unchanged.first():
            cursor.execute(f"DROP SCHEMA IF EXISTS {quote_schema_name(spare.schema_name)} CASCADE")
            spare.delete()


def _register_spare() -> Spare:
    """Write the row of a spare to come. Raises NoSlot if there are enough rows.

    The row is committed before the schema exists, so that the schema can be found, whatever happens to it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [SPARES_LOCK])
        if Spare.objects.count() >= settings.SPARE_SCHEMAS:
            raise NoSlot
        spare = Spare.objects.create()
        # Before others see the row: without this lock it looks like one that was left half-way.
        lock_schema(spare.schema_name)
        return spare
