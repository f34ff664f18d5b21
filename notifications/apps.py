from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.db.models.signals import post_migrate

from jobs.daily import add_daily_schedule


class NotificationsConfig(AppConfig):
    name = "notifications"

    def ready(self) -> None:
        from notifications import checks  # noqa: F401

        post_migrate.connect(schedule_forgetting, sender=self)


def schedule_forgetting(apps: Apps, **kwargs: Any) -> None:
    """Every night, in each tenant."""
    task = "notifications.tasks.forget_old_messages"
    add_daily_schedule(apps, name="Forget old messages", task=task, hour=3, minute=45, place="tenants")
