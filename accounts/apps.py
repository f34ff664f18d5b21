from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.db.models.signals import post_migrate

from jobs.daily import add_daily_schedule


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import checks  # noqa: F401

        post_migrate.connect(schedule_expiry, sender=self)


def schedule_expiry(apps: Apps, **kwargs: Any) -> None:
    """Every night."""
    task = "accounts.tasks.expire_unconfirmed_tenants"
    add_daily_schedule(apps, name="Delete tenants that nobody confirmed", task=task, hour=4)
