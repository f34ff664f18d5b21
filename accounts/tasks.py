"""The provisioning of a tenant that signed up, the end of one that nobody confirms, mails with links, and sessions."""

from typing import Any

from celery import shared_task
from django.contrib.sessions.backends.db import SessionStore
from django.db import InterfaceError, OperationalError, transaction

from accounts import links, provisioning, unconfirmed
from tenants.slots import NoSlot, seconds_in_line


# Making a schema can be repeated: a try goes on where the one before it stopped.
@shared_task(
    bind=True,
    runs_in="public",
    atomic=False,
    autoretry_for=(InterfaceError, OperationalError),
    retry_backoff=2,
    retry_backoff_max=60,
    retry_jitter=False,
    max_retries=6,
)
def provision_tenant(self: Any, tenant_id: str) -> None:
    """Make the tenant's schema, then open the tenant with its owner."""
    try:
        provisioning.prepare_tenant(tenant_id=tenant_id)
    except NoSlot:
        raise self.snooze(seconds_in_line(tenant_id), limited=False) from None
    with self.completion() as done:
        done.result = provisioning.open_tenant(tenant_id=tenant_id)


@shared_task(bind=True, runs_in="public")
def give_up_provisioning(self: Any, job_id: str, tenant_id: str) -> None:
    """The errback of `provision_tenant`, whatever ended it: an error, its time limit, a killed worker."""
    error = self.AsyncResult(job_id).result
    provisioning.give_up_tenant(tenant_id=tenant_id, reason=f"{type(error).__name__}: {error}")


@shared_task(runs_in="public")
@transaction.atomic
def expire_unconfirmed_tenants() -> int:
    """Dispatch the end of each tenant that nobody has confirmed in time. Returns how many these are."""
    overdue = [(tenant_id,) for tenant_id in unconfirmed.find_overdue()]
    return len(expire_unconfirmed_tenant.map_on_commit(overdue))


@shared_task(runs_in="public")
@transaction.atomic
def expire_unconfirmed_tenant(tenant_id: str) -> str | None:
    """Delete the tenant, or suspend it if it may have paid for something. Returns its new status, or None."""
    return unconfirmed.expire_tenant(tenant_id=tenant_id)


@shared_task(runs_in="public")
def forget_expired_sessions() -> None:
    """Delete the sessions of staff that have ended, as `manage.py clearsessions` does."""
    SessionStore.clear_expired()


@shared_task
def send_password_links(email: str, address: str | None = None) -> None:
    """Mail a link to set a password to whoever has this address, if anybody has."""
    links.send_password_links(email=email, address=address)
