"""Schedules that the release step gives the admin to edit."""

from django.apps.registry import Apps

from tenants.connection import connection


def add_daily_schedule(apps: Apps, *, name: str, task: str, hour: int, minute: int = 0) -> None:
    """For a receiver of post_migrate: let a task run every day, in UTC.

    A schedule that exists stays as it is: switch it off in the admin, don't delete it. Does nothing outside of
    `public`, and while the tables of beat are not migrated, since `migrate <app>` may stop short of them.
    """
    if connection.schema_name != "public" or not _has_beat(apps):
        return
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    every_day, _ = CrontabSchedule.objects.get_or_create(minute=str(minute), hour=str(hour))
    PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, "crontab": every_day})


def _has_beat(apps: Apps) -> bool:
    try:
        apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:
        return False
    return True
