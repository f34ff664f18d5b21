"""Forgetting old keys, on a schedule."""

from celery import shared_task
from django.db import transaction

from idempotency import services


@shared_task
def forget_expired() -> int:
    """Delete the old responses of the active schema. Returns how many."""
    return services.forget_expired()


@shared_task(runs_in="public")
@transaction.atomic
def forget_expired_everywhere() -> int:
    """Do that in `public`, and dispatch it in every active tenant. Returns how many tenants these are."""
    services.forget_expired()
    dispatched: int = forget_expired.for_each_tenant_on_commit()
    return dispatched
