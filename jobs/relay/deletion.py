"""Deleting a tenant: the relay continues what `tenants.services.delete_tenant` began, and resumes it after a crash."""

import logging
from typing import Any

from django.db import transaction
from django_tenants.utils import quote_schema_name

from jobs.claim import TENANT_LOCK
from jobs.relay import statements
from jobs.relay.line import BATCH
from tenants.connection import connection, execute, fetch_one
from tenants.models import Tenant

logger = logging.getLogger(__name__)

#: A request that is still under way in the tenant holds up the deletion; it must not hold up other tenants'.
LOCK_TIMEOUT = "200ms"


def find_deleting() -> list[Tenant]:
    """The tenants that are to be deleted."""
    return list(Tenant.objects.filter(status=Tenant.Status.DELETING))


def delete_batch(tenant: Tenant) -> bool:
    """Go on with the deletion of a tenant that is `deleting`; whether there is more to do at once.

    The jobs that nobody holds go first, a batch at a time. The rest waits until no job of it runs.
    """
    if execute(statements.CANCEL_WAITING, {**_key(tenant), "batch": BATCH}) == BATCH:
        return True
    with transaction.atomic():
        return lock_when_idle(tenant) and not _delete_locked(tenant)


def delete_when_idle(tenant: Tenant) -> bool:
    """Delete a tenant that is `deleting` in one go, unless a job of it still runs; whether it is deleted."""
    while delete_batch(tenant):
        pass
    return not Tenant.objects.filter(pk=tenant.pk).exists()


def lock_when_idle(tenant: Tenant) -> bool:
    """Keep the tenant's jobs from starting until the caller's transaction ends. False if one runs."""
    # The gate lets no body start any more: it takes the same lock, and looks at the status.
    [locked] = fetch_one(statements.TRY_LOCK_TENANT, _key(tenant))
    return locked and fetch_one(statements.FIND_RUNNING, _key(tenant)) is None


def _delete_locked(tenant: Tenant) -> bool:
    """Delete a batch of the jobs whose workers vanished; after the last one, all that is left. False after a batch."""
    execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'", {})
    if execute(statements.DELETE_JOBS, {**_key(tenant), "batch": BATCH}) == BATCH:
        return False
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {quote_schema_name(tenant.schema_name)} CASCADE")
    # Not tenant.delete(), which takes the key from the object even if the COMMIT fails.
    Tenant.objects.filter(pk=tenant.pk).delete()
    transaction.on_commit(lambda: logger.info("Tenant %s is deleted", tenant.slug))
    return True


def _key(tenant: Tenant) -> dict[str, Any]:
    return {"class": TENANT_LOCK, "tenant": str(tenant.id)}
