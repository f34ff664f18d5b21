from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.db.models.signals import post_migrate

from jobs.daily import add_daily_schedule


class IdempotencyConfig(AppConfig):
    name = "idempotency"

    def ready(self) -> None:
        post_migrate.connect(schedule_forgetting, sender=self)


def schedule_forgetting(apps: Apps, **kwargs: Any) -> None:
    """Every night."""
    task = "idempotency.tasks.forget_expired_everywhere"
    add_daily_schedule(apps, name="Forget old Idempotency-Keys", task=task, hour=3, minute=30)
