"""Schedules that an app brings along, for the admin to edit."""

from django.apps.registry import Apps

from tenants.connection import connection


def add_schedule(apps: Apps, *, name: str, task: str, hour: str, minute: str) -> None:
    """Let a task run daily. A schedule with this name stays as it is: switch it off in the admin, don't delete it.

    For receivers of post_migrate, which hands them `apps`.
    """
    if connection.schema_name != "public" or not _has_beat(apps):
        return
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    daily, _ = CrontabSchedule.objects.get_or_create(minute=minute, hour=hour)
    PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, "crontab": daily})


def _has_beat(apps: Apps) -> bool:
    """Whether the tables of beat are migrated: `migrate <app>` may stop short of them."""
    try:
        apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:
        return False
    return True
