"""Periodic tasks: what a schedule may run, where it runs, and the durable job that each run is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery import Task, current_app
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import TextChoices
from django_celery_beat.models import PeriodicTask

from jobs import outbox
from jobs.celery_hooks.signatures import check_arguments
from jobs.codec import encode
from jobs.outbox import Terms

#: The task that dispatches another one in each active tenant.
FAN_OUT = "jobs.tasks.run_in_each_tenant"
#: The one header that a schedule may have: where it runs.
RUN_IN = "run_in"
#: Beat would do nothing else.
SHORTEST_INTERVAL = timedelta(seconds=1)
ROUTING = ("queue", "exchange", "routing_key", "priority")


class Place(TextChoices):
    """Where a schedule runs its task."""

    PUBLIC = "public", "once, on the platform"
    TENANTS = "tenants", "in each active tenant"


class NotSchedulable(Exception):
    """A schedule asks for what a durable job can't be, or for a task that can't run there."""

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True, slots=True)
class Run:
    """The call that each run of a schedule is."""

    schedule: str
    terms: Terms
    args: list[Any]
    kwargs: dict[str, Any]


def run_of(periodic: PeriodicTask) -> Run:
    """What a schedule runs. Raises NotSchedulable, with a reason for people."""
    _refuse_routing(periodic)
    _refuse_no_time(periodic)
    _check_schedule(periodic)
    if not periodic.task.strip():
        raise NotSchedulable("It names no task.", field="task")
    args, kwargs = _parse(periodic, "args", "[]", list), _parse(periodic, "kwargs", "{}", dict)
    place = place_of(periodic)
    check_place(periodic.task, place)
    try:
        run = _run(periodic, args, kwargs)
    except (TypeError, ValueError, OverflowError, ImproperlyConfigured) as error:
        raise NotSchedulable(str(error)) from error
    return run if place == Place.PUBLIC else _fan_out(periodic, args, kwargs)


def dispatch(run: Run) -> bool:
    """Write the job of a run; False if an earlier one waits still, which stands for both."""
    return outbox.insert_run(run.schedule, run.terms, run.args, run.kwargs)


def place_of(periodic: PeriodicTask) -> Place:
    """Where a schedule runs, by its headers. Raises NotSchedulable for other headers."""
    headers = _parse(periodic, "headers", "{}", dict)
    try:
        place = Place(headers.pop(RUN_IN, Place.PUBLIC))
    except (TypeError, ValueError) as error:
        places = " or ".join(Place.values)
        raise NotSchedulable(f"A schedule runs in {places}: {error}.", field="headers") from error
    if headers:
        raise NotSchedulable(f"A durable job's message has no such headers: {', '.join(headers)}.", field="headers")
    return place


def headers_for(place: str) -> str:
    """The headers of a schedule that runs there."""
    return "{}" if place == Place.PUBLIC else json.dumps({RUN_IN: place})


def places_for(task: Task[Any, Any] | None) -> set[str]:
    """Where a task can run: what it says itself in `runs_in`, or else where its app has tables."""
    if declared := getattr(task, "runs_in", None):
        return {declared}
    app = apps.get_containing_app_config(task.__module__) if task else None
    lists = {Place.PUBLIC: settings.SHARED_APPS, Place.TENANTS: settings.TENANT_APPS}
    places = {str(place) for place, names in lists.items() if app and app.name in names}
    return places or {str(place) for place in Place}


def check_place(name: str, place: str) -> None:
    """Raise NotSchedulable if this task can't run there."""
    places = places_for(current_app.tasks.get(name))
    if name == FAN_OUT:
        raise NotSchedulable(f"{name} is what runs other tasks in each active tenant: schedule those.", field="task")
    if place not in places:
        can = " or ".join(Place(each).label for each in sorted(places))
        raise NotSchedulable(
            f"{name} does not run {Place(place).label}, but {can}. Choose that, or set `runs_in` on the task.",
            field="task",
        )


def _refuse_routing(periodic: PeriodicTask) -> None:
    for field in ROUTING:
        if getattr(periodic, field) not in (None, ""):
            reason = f"A run is a durable job, which has a queue and a line of its own: leave {field} empty."
            raise NotSchedulable(reason, field=field)


def _refuse_no_time(periodic: PeriodicTask) -> None:
    # Celery's own `expires=0` is "at once", django-celery-beat's is "never": nobody can tell what its author meant.
    if periodic.expire_seconds == 0:
        reason = "Each run would expire before it begins: leave expire_seconds empty for runs that never expire."
        raise NotSchedulable(reason, field="expire_seconds")


def _check_schedule(periodic: PeriodicTask) -> None:
    try:
        # None in a form that is not filled in yet.
        schedule = periodic.schedule if periodic.scheduler else None
    except Exception as error:
        raise NotSchedulable(f"Its schedule can't be calculated: {type(error).__name__}: {error}") from error
    if schedule is not None and periodic.interval and schedule.run_every < SHORTEST_INTERVAL:
        raise NotSchedulable("It runs every second at the most often.", field="interval")


def _parse(periodic: PeriodicTask, field: str, default: str, kind: type) -> Any:
    try:
        value = json.loads(getattr(periodic, field) or default)
    except (ValueError, RecursionError) as error:
        raise NotSchedulable(f"{field} is no JSON: {error}.", field=field) from error
    if not isinstance(value, kind):
        raise NotSchedulable(f"{field} is {value!r:.100}, and not like {default}.", field=field)
    return value


def _run(periodic: PeriodicTask, args: list[Any], kwargs: dict[str, Any]) -> Run:
    # A task that only the workers know may be scheduled.
    task = current_app.tasks.get(periodic.task)
    current_app.refuse_foreign(task)
    if task is not None:
        check_arguments(task, args, kwargs)
    encode([args, kwargs])
    terms = Terms.of(periodic.task, _options(periodic), expires=task and task.expires)
    return Run(periodic.name, terms, args, kwargs)


def _fan_out(periodic: PeriodicTask, args: list[Any], kwargs: dict[str, Any]) -> Run:
    call = {"task": periodic.task, "args": args, "kwargs": kwargs, "expire_seconds": periodic.expire_seconds}
    return Run(periodic.name, Terms.of(FAN_OUT, _options(periodic)), [], call)


def _options(periodic: PeriodicTask) -> Mapping[str, Any]:
    expires = periodic.expire_seconds if periodic.expires is None else periodic.expires
    return {} if expires is None else {"expires": expires}
