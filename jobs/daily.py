"""Schedules that the release step gives the admin to edit."""

from django.apps.registry import Apps

from tenants.connection import connection


def add_daily_schedule(apps: Apps, *, name: str, task: str, hour: int, minute: int = 0, place: str = "public") -> None:
    """For a receiver of post_migrate: let a task run every day, in UTC; `place` is one of jobs.schedules.Place.

    A schedule that exists stays as it is: switch it off in the admin, don't delete it. Does nothing outside of
    `public`, and while the tables of beat are not migrated, since `migrate <app>` may stop short of them.
    """
    if connection.schema_name != "public" or not _has_beat(apps):
        return
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    from jobs.schedules import headers_for

    every_day, _ = CrontabSchedule.objects.get_or_create(minute=str(minute), hour=str(hour))
    defaults = {"task": task, "crontab": every_day, "headers": headers_for(place)}
    PeriodicTask.objects.get_or_create(name=name, defaults=defaults)


def _has_beat(apps: Apps) -> bool:
    try:
        apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:
        return False
    return True
