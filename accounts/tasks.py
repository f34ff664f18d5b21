"""The provisioning of a tenant that signed up."""

from typing import Any

from celery import shared_task
from django.db import InterfaceError, OperationalError

from accounts import provisioning


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
    provisioning.prepare_tenant(tenant_id=tenant_id)
    with self.completion() as done:
        done.result = provisioning.open_tenant(tenant_id=tenant_id)


@shared_task(bind=True, runs_in="public")
def give_up_provisioning(self: Any, job_id: str, tenant_id: str) -> None:
    """The errback of `provision_tenant`, whatever ended it: an error, its time limit, a killed worker."""
    error = self.AsyncResult(job_id).result
    provisioning.give_up_tenant(tenant_id=tenant_id, reason=f"{type(error).__name__}: {error}")
