from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.db.models.signals import post_migrate

from jobs.daily import add_daily_schedule


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from billing import checks  # noqa: F401

        post_migrate.connect(schedule_reminders, sender=self)


def schedule_reminders(apps: Apps, **kwargs: Any) -> None:
    """Every morning."""
    add_daily_schedule(apps, name="Remind of unpaid invoices", task="billing.tasks.remind_all_tenants", hour=6)
