"""The end of tenants whose owners do not confirm their addresses. In the public schema."""

import logging
from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.module_loading import import_string
from django_tenants.utils import tenant_context

from jobs.relay.deletion import lock_when_idle
from tenants.models import Tenant
from tenants.services import delete_tenant, suspend_tenant

logger = logging.getLogger(__name__)

REASON = "No owner has confirmed their address, and a card may have been charged: see to it, and resume or delete it"


def find_overdue() -> list[str]:
    """The ids of the tenants that are unconfirmed after UNCONFIRMED_DAYS. Those that staff has suspended are left."""
    return [str(pk) for pk in _overdue().values_list("pk", flat=True)]


def _overdue() -> QuerySet[Tenant]:
    since = timezone.now() - timedelta(days=settings.UNCONFIRMED_DAYS)
    statuses = (Tenant.Status.ACTIVE, Tenant.Status.FAILED)
    return Tenant.objects.filter(is_confirmed=False, created_at__lte=since, status__in=statuses)


def expire_tenant(*, tenant_id: str) -> str | None:
    """Begin to delete the tenant, if it is overdue. One that must be kept is suspended instead, and reported.

    Returns its new status, or None if it isn't overdue, or if a job of it runs: that may just be charging a card. Needs
    the caller's transaction.
    """
    tenant = _overdue().select_for_update(no_key=True).filter(pk=tenant_id).first()
    if tenant is None or not lock_when_idle(tenant):
        return None
    if _is_kept(tenant):
        suspend_tenant(tenant, reason=REASON)
        logger.warning("Tenant %s is suspended. %s", tenant.slug, REASON)
    else:
        delete_tenant(tenant, quarantine=False)
        logger.info("Tenant %s is deleted: no owner has confirmed their address", tenant.slug)
    return str(tenant.status)


def _is_kept(tenant: Tenant) -> bool:
    """By what KEEP_UNCONFIRMED_IF names. One that could not be set up has no schema to look in."""
    if tenant.status == Tenant.Status.FAILED:
        return False
    with tenant_context(tenant):
        return any(import_string(name)() for name in settings.KEEP_UNCONFIRMED_IF)
