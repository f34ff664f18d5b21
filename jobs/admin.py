"""The outbox in the admin: people look at jobs, and run them again, discard or cancel them. They edit nothing."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from jobs import admin_schedules, endings
from jobs.models import Job
from tenants.audit import record

__all__ = ["JobAdmin", "admin_schedules"]


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """The outbox: jobs that are under way, and dead ones."""

    list_display = ("id", "task", "tenant", "state", "attempt", "due_at", "lease_until", "error")
    list_filter = ("state", "task")
    search_fields = ("id", "task", "tenant__slug")
    list_select_related = ("tenant",)
    ordering = ("-seq",)
    show_full_result_count = False
    actions = ("retry", "discard", "cancel")

    @admin.action(description="Run again (dead jobs)", permissions=["replay"])
    def retry(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        """Let the chosen jobs that are dead run again."""
        self._each(request, jobs, endings.replay, "run again")

    @admin.action(description="Discard (dead jobs)", permissions=["discard"])
    def discard(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        """Remove the chosen jobs that are dead."""
        self._each(request, jobs, endings.discard, "discarded")

    @admin.action(description="Cancel (jobs that have not begun)", permissions=["cancel"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        """End the chosen jobs that have not begun."""
        self._each(request, jobs, endings.cancel, "cancelled")

    def _each(self, request: HttpRequest, jobs: QuerySet[Job], change: Callable[[Job], bool], done: str) -> None:
        changed = 0
        for job in jobs:
            with transaction.atomic():
                if change(job):
                    changed += 1
                    record(job, f"{done.capitalize()}.", user=request.user)
        messages.info(request, f"{changed} of {len(jobs)} jobs {done}.")

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Whether this member of staff may run dead jobs again."""
        return request.user.has_perm("jobs.replay_job")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Whether this member of staff may discard dead jobs."""
        return request.user.has_perm("jobs.discard_job")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether this member of staff may cancel jobs that have not begun."""
        return request.user.has_perm("jobs.cancel_job")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field.name for field in Job._meta.fields]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
