from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.db.models.signals import post_migrate

from tenants.connection import connection


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from billing import checks  # noqa: F401

        post_migrate.connect(schedule_reminders, sender=self)


def schedule_reminders(apps: Apps, **kwargs: Any) -> None:
    """Give the admin a daily schedule to edit. One that exists stays as it is: switch it off there, don't delete it."""
    if connection.schema_name != "public" or not _has_beat(apps):
        return
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    every_morning, _ = CrontabSchedule.objects.get_or_create(minute="0", hour="6")
    PeriodicTask.objects.get_or_create(
        name="Remind of unpaid invoices",
        defaults={"task": "billing.tasks.remind_all_tenants", "crontab": every_morning},
    )


def _has_beat(apps: Apps) -> bool:
    """Whether the tables of beat are migrated: `migrate <app>` may stop short of them."""
    try:
        apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:
        return False
    return True
