"""Periodic tasks in the admin: it offers what can run, says where, and refuses what a durable job can't be."""

from typing import Any

from celery import current_app
from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat.admin import PeriodicTaskAdmin, PeriodicTaskForm, TaskChoiceField, TaskSelectWidget
from django_celery_beat.models import PeriodicTask

from jobs import schedules
from jobs.outbox import checked_name
from jobs.schedules import FAN_OUT, NotSchedulable, Place
from tenants.audit import record

WHEN = ("interval", "crontab", "solar", "clocked")
SCHEDULED = ("name", "task", "args", "kwargs", "expires", "expire_seconds", *WHEN, *schedules.ROUTING)


class TaskSelect(TaskSelectWidget):
    """The tasks by name, each with where it can run."""

    def tasks_as_choices(self) -> tuple[tuple[str, str], ...]:
        """Pairs of value and label."""
        return tuple(
            (name, _label(name) if name else "") for name, _ in super().tasks_as_choices() if _is_offered(name)
        )


class TaskField(TaskChoiceField):
    """A choice among the tasks."""

    widget = TaskSelect


class ScheduleForm(PeriodicTaskForm):
    """A periodic task, whose runs are durable jobs."""

    regtask = TaskField(label="Task", required=False, help_text="And where it can run")
    run_in = forms.ChoiceField(
        label="Runs",
        choices=Place.choices,
        widget=forms.RadioSelect,
        initial=Place.PUBLIC,
        help_text="A schedule is the platform's. In each active tenant, it dispatches one job there.",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            self.initial["run_in"] = _place_of(self.instance)

    def clean(self) -> Any:
        """What a run would be refused for is refused here."""
        self.cleaned_data.setdefault("task", "")  # a name that is too long is missing here
        data = super().clean()
        self.instance.headers = schedules.headers_for(data.get("run_in", Place.PUBLIC))
        asked = PeriodicTask(**{name: data.get(name) for name in SCHEDULED}, headers=self.instance.headers)
        try:
            _refuse_unknown(asked.task)
            schedules.run_of(asked)
        except NotSchedulable as refusal:
            self.add_error(refusal.field if refusal.field in self.fields else None, str(refusal))
        return data


class ScheduleAdmin(PeriodicTaskAdmin):
    """django-celery-beat's, for schedules whose runs are durable jobs."""

    form = ScheduleForm
    actions = ("enable_tasks", "disable_tasks", "run_tasks")
    list_display = ("name", "enabled", "task", "runs", "scheduler", "last_run_at", "total_run_count", "one_off")
    fieldsets = (
        (None, {"fields": ("name", "regtask", "task", "run_in", "enabled", "description")}),
        *PeriodicTaskAdmin.fieldsets[1:3],
        ("Options", {"fields": ("expires", "expire_seconds", *schedules.ROUTING)}),
    )

    @admin.display
    def runs(self, periodic: PeriodicTask) -> str:
        """Where it runs, or why it can't."""
        try:
            schedules.run_of(periodic)
        except NotSchedulable as refusal:
            return f"not: {refusal}"
        return schedules.place_of(periodic).label

    @admin.action(description="Run now", permissions=["change"])
    def run_tasks(self, request: HttpRequest, periodics: QuerySet[PeriodicTask]) -> None:
        """Dispatch a run of each of the chosen schedules, as beat would."""
        for periodic in periodics:
            try:
                run = schedules.run_of(periodic)
            except NotSchedulable as refusal:
                messages.error(request, f"{periodic.name}: {refusal}")
                continue
            with transaction.atomic():
                outcome = "dispatched" if schedules.dispatch(run) else "a run waits already"
                record(periodic, f"Run now: {outcome}.", user=request.user)
            messages.info(request, f"{periodic.name}: {outcome}.")

    @admin.action(description="Enable", permissions=["change"])
    def enable_tasks(self, request: HttpRequest, periodics: QuerySet[PeriodicTask]) -> None:
        """Let beat run the chosen schedules."""
        with transaction.atomic():
            for periodic in periodics:
                record(periodic, "Enabled.", user=request.user)
            super().enable_tasks(request, periodics)

    @admin.action(description="Disable", permissions=["change"])
    def disable_tasks(self, request: HttpRequest, periodics: QuerySet[PeriodicTask]) -> None:
        """Stop the chosen schedules."""
        with transaction.atomic():
            for periodic in periodics:
                record(periodic, "Disabled.", user=request.user)
            super().disable_tasks(request, periodics)


def _place_of(periodic: PeriodicTask) -> str:
    try:
        return schedules.place_of(periodic)
    except NotSchedulable:
        return Place.PUBLIC


def _is_offered(name: str) -> bool:
    try:
        checked_name(name)
    except TypeError:
        return False
    return name != FAN_OUT


def _label(name: str) -> str:
    places = schedules.places_for(current_app.tasks[name])
    return f"{name} ({' or '.join(Place(place).label for place in sorted(places))})"


def _refuse_unknown(name: str) -> None:
    if name not in current_app.tasks:
        current_app.loader.import_default_modules()
    if name not in current_app.tasks:
        raise NotSchedulable(f"No app of this project has a task {name!r}.", field="task")


admin.site.unregister(PeriodicTask)
admin.site.register(PeriodicTask, ScheduleAdmin)
