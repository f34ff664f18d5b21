from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.db.models.signals import post_delete, post_migrate

from jobs.daily import add_daily_schedule


class IdempotencyConfig(AppConfig):
    name = "idempotency"

    def ready(self) -> None:
        post_migrate.connect(schedule_forgetting, sender=self)
        post_delete.connect(forget_sign_up, sender="tenants.Tenant")


def forget_sign_up(instance: Any, **kwargs: Any) -> None:
    """With the tenant, in one transaction."""
    from idempotency import services  # it imports models, and these need the apps

    services.forget_sign_up(instance.slug)


def schedule_forgetting(apps: Apps, **kwargs: Any) -> None:
    """Every night."""
    task = "idempotency.tasks.forget_expired_everywhere"
    add_daily_schedule(apps, name="Forget old Idempotency-Keys", task=task, hour=3, minute=30)
