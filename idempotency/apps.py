from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.db.models.signals import post_migrate

from tenants.connection import connection


class IdempotencyConfig(AppConfig):
    name = "idempotency"

    def ready(self) -> None:
        post_migrate.connect(schedule_forgetting, sender=self)


def schedule_forgetting(apps: Apps, **kwargs: Any) -> None:
    """Give the admin a daily schedule to edit. One that exists stays as it is: switch it off there, don't delete it."""
    if connection.schema_name != "public" or not _has_beat(apps):
        return
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    every_night, _ = CrontabSchedule.objects.get_or_create(minute="30", hour="3")
    PeriodicTask.objects.get_or_create(
        name="Forget old Idempotency-Keys",
        defaults={"task": "idempotency.tasks.forget_expired_everywhere", "crontab": every_night},
    )


def _has_beat(apps: Apps) -> bool:
    """Whether the tables of beat are migrated: `migrate <app>` may stop short of them."""
    try:
        apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:
        return False
    return True
