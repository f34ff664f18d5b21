"""Beat's scheduler."""

from django_celery_beat.schedulers import DatabaseScheduler

from tenants.role import verify_role


class TenantScheduler(DatabaseScheduler):
    """django-celery-beat's. It looks at the database before Celery sends a signal, so the role is verified here."""

    def setup_schedule(self) -> None:
        """Read the schedule, when the role's defaults hold. Raises SystemExit if they don't."""
        verify_role()
        super().setup_schedule()
