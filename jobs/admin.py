from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from jobs.models import Job


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """The outbox, to look at."""

    list_display = ("id", "task", "tenant", "state", "attempt", "due_at", "lease_until", "error")
    list_filter = ("state", "task")
    search_fields = ("id", "task", "tenant__slug")
    list_select_related = ("tenant",)
    ordering = ("-created_at",)
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
