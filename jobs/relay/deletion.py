"""Deleting a tenant: the relay continues what `tenants.services.delete_tenant` began, and resumes it after a crash."""

import logging

from django.db import OperationalError, transaction
from django_tenants.utils import quote_schema_name

from jobs.claim import TENANT_LOCK
from jobs.relay import statements
from tenants.connection import connection
from tenants.models import Tenant

logger = logging.getLogger(__name__)

#: A request that is still under way in the tenant holds up the deletion; it must not hold up the relay.
LOCK_TIMEOUT = "1s"


def continue_deletions() -> None:
    """Delete each tenant that is `deleting` and has no running job. One that can't be dropped yet is left for later."""
    for tenant in Tenant.objects.filter(status=Tenant.Status.DELETING):
        try:
            if delete_when_idle(tenant):
                logger.info("Tenant %s is deleted", tenant.slug)
        except OperationalError as error:
            if not connection.is_usable():
                raise
            logger.warning("Tenant %s can't be dropped yet: %s", tenant.slug, error)


def delete_when_idle(tenant: Tenant) -> bool:
    """Delete the jobs that nobody holds of a tenant that is `deleting`; drop its schema and rows unless one still runs.

    The gate lets no body start any more: it takes the same lock, and looks at the status.
    """
    parameters = {"class": TENANT_LOCK, "tenant": str(tenant.id)}
    with connection.cursor() as cursor:
        cursor.execute(statements.CANCEL_WAITING, parameters)
        with transaction.atomic():
            cursor.execute(statements.TRY_LOCK_TENANT, parameters)
            [locked] = cursor.fetchone()
            cursor.execute(statements.FIND_RUNNING, parameters)
            if not locked or cursor.fetchone() is not None:
                return False
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute(f"DROP SCHEMA IF EXISTS {quote_schema_name(tenant.schema_name)} CASCADE")
            cursor.execute(statements.DELETE_JOBS, parameters)
            tenant.delete()
    return True
