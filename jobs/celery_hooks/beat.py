"""Beat's scheduler."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from tenants.binding import bind_to_public


class Scheduler(DatabaseScheduler):
    """django-celery-beat's: the schedule is in `public`, and what it calls belongs there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        bind_to_public()
        super().__init__(*args, **options)
