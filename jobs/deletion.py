"""Deleting a tenant: the relay continues what `tenants.services.delete_tenant` began, and resumes it after a crash."""

import logging

from django.db import OperationalError, transaction
from django_tenants.utils import quote_schema_name

from jobs.lease import TENANT_LOCK
from tenants.connection import connection
from tenants.models import Tenant

logger = logging.getLogger(__name__)

CANCEL_WAITING = """
    DELETE FROM public.jobs_job WHERE id IN (
        SELECT id FROM public.jobs_job WHERE tenant_id = %(tenant)s AND token IS NULL
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
"""
RUNNING = "SELECT FROM public.jobs_job WHERE tenant_id = %(tenant)s AND lease_until > clock_timestamp() LIMIT 1"
# A request that is still under way there holds up the deletion; it must not hold up the relay.
PATIENCE = "1s"
LOCK = "SELECT pg_try_advisory_xact_lock(%(class)s, hashtext(%(tenant)s))"


def continue_deletions() -> None:
    for tenant in Tenant.objects.filter(status=Tenant.Status.DELETING):
        try:
            if delete_when_idle(tenant):
                logger.info("Tenant %s is deleted", tenant.slug)
        except OperationalError as error:
            if not connection.is_usable():
                raise
            logger.warning("Tenant %s can't be dropped yet: %s", tenant.slug, error)


def delete_when_idle(tenant: Tenant) -> bool:
    """Cancel the waiting jobs of a tenant that is `deleting`, and drop its schema and rows unless one still runs.

    The gate lets no body start any more: it takes the same lock, and looks at the status.
    """
    parameters = {"class": TENANT_LOCK, "tenant": str(tenant.id)}
    with connection.cursor() as cursor:
        cursor.execute(CANCEL_WAITING, parameters)
        with transaction.atomic():
            cursor.execute(LOCK, parameters)
            [locked] = cursor.fetchone()
            cursor.execute(RUNNING, parameters)
            if not locked or cursor.fetchone() is not None:
                return False
            cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
            cursor.execute(f"DROP SCHEMA IF EXISTS {quote_schema_name(tenant.schema_name)} CASCADE")
            cursor.execute("DELETE FROM public.jobs_job WHERE tenant_id = %(tenant)s", parameters)
            tenant.delete()
    return True
