"""Beat's scheduler."""

from django_celery_beat.schedulers import DatabaseScheduler

from tenants.binding import bind_to_public
from tenants.role import verify_role


class TenantScheduler(DatabaseScheduler):
    """django-celery-beat's: the schedule is in `public`, and what it calls belongs there.

    It looks at the database before Celery sends a signal, so that is bound here, and the role verified.
    """

    def setup_schedule(self) -> None:
        """Read the schedule, when the role's defaults hold. Raises SystemExit if they don't."""
        bind_to_public()
        verify_role()
        super().setup_schedule()
