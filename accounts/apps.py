from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.db.models.signals import post_migrate

from jobs.defaults import add_schedule


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import checks  # noqa: F401

        post_migrate.connect(schedule_expiry, sender=self)


def schedule_expiry(apps: Apps, **kwargs: Any) -> None:
    add_schedule(
        apps,
        name="Delete tenants that nobody confirmed",
        task="accounts.tasks.expire_unconfirmed_tenants",
        hour="3",
        minute="45",
    )
