"""Beat's scheduler."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from tenants.binding import bind_to_public
from tenants.role import verify_role


class TenantScheduler(DatabaseScheduler):
    """django-celery-beat's: the schedule is in `public`, and what it calls belongs there.

    It looks at the database before Celery sends a signal, so that is bound here, and the role verified. Beat makes one
    for its banner first, which reads nothing, and which waits before beat has its handler of SIGTERM: that one makes a
    scheduler, too, to save its schedule, and would wait as well.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        bind_to_public()
        verify_role()
        super().__init__(*args, **options)
