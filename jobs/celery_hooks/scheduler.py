"""django-celery-beat's scheduler, and all that ours leans on in it and in Celery's.

A schedule is a row of `public`. The library reads it, dispatches its runs, and notes them some minutes later; here a
run is noted when it is taken, by whoever takes it. See `jobs.beat` for what a run is.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DataError, InterfaceError, OperationalError
from django.db.models import QuerySet
from django.db.models.functions import Least
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from tenants.binding import bind_to_public
from tenants.connection import connection
from tenants.role import verify_role

logger = logging.getLogger(__name__)

#: Seconds until beat tries again what went wrong.
PAUSE = 1.0
#: A last run that is further ahead than this was written by a clock that was wrong. Less may be another beat's clock.
CLOCK_TOLERANCE = timedelta(minutes=1)
#: The column holds one more.
MOST_RUNS = 2**31 - 2
LONG_AGO = timedelta(days=365 * 30)


class StoredEntry(ModelEntry):
    """A schedule as it was read."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        # Not by super(), which disables a schedule whose arguments it can't read, by saving all of the row.
        self.args, self.kwargs = self.call_of(model)
        self.options: dict[str, Any] = {}
        self.app, self.model, self.name, self.task = app, model, model.name, model.task
        self.schedule = model.schedule
        self.total_run_count = model.total_run_count
        self.seen = model.last_run_at
        self.last_run_at = self.seen or _before_the_first_run(model)

    def call_of(self, model: PeriodicTask) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of each run. Raises for a schedule that can't be run."""
        raise NotImplementedError

    @classmethod
    def from_entry(cls, name: str, app: Any = None, **entry: Any) -> Self:
        """A schedule of the settings. Its row is written only if they have changed: a first run counts from there, and
        beat may start more often than the schedule is due.
        """
        fields = cls._unpack_fields(**entry)
        unchanged = PeriodicTask.objects.filter(name=name, **fields).first()
        model = unchanged or PeriodicTask.objects.update_or_create(name=name, defaults=fields)[0]
        return cls(model, app=app)

    def is_due(self) -> Any:
        """Whether it is, and in how many seconds to look again."""
        now = timezone.now()
        if self.last_run_at > now + CLOCK_TOLERANCE:
            self.last_run_at = now
        return super().is_due()

    def __next__(self) -> Self:
        if self.model.one_off:
            self.model.enabled, self.model.last_run_at = False, None
        else:
            self.model.last_run_at = timezone.now()
            self.model.total_run_count += 1
        return type(self)(self.model, app=self.app)

    def take(self) -> bool:
        """Note that the run which is due has happened. False if another beat has taken it, or if the schedule is not
        as it was read.
        """
        if self.model.one_off:
            return self._as_read().update(enabled=False, last_run_at=None, total_run_count=0) == 1
        ran = {"last_run_at": self.model.last_run_at, "total_run_count": Least("total_run_count", MOST_RUNS) + 1}
        return self._as_read().update(**ran) == 1

    def _disable(self, model: PeriodicTask) -> None:
        # The library's saves all of the row, over what somebody has changed meanwhile.
        model.enabled = False
        self._as_read().update(enabled=False, last_run_at=None)

    def _as_read(self) -> "QuerySet[PeriodicTask]":
        row = PeriodicTask.objects.filter(pk=self.model.pk, enabled=True, last_run_at=self.seen)
        found: QuerySet[PeriodicTask] = row.filter(date_changed=self.model.date_changed)
        return found


class StoredScheduler(DatabaseScheduler):
    """Reads schedules, finds out which is due, and goes on whatever goes wrong.

    It looks at the database before Celery sends a signal, so that is bound here, and the role verified. Beat makes one
    for its banner first, which reads nothing, and which waits before beat has its handler of SIGTERM: that one makes a
    scheduler, too, to save its schedule, and would wait as well.
    """

    #: Celery connects to the broker when it asks for one.
    producer: ClassVar[None] = None
    _last_timestamp: datetime | None

    def __init__(self, *args: Any, **options: Any) -> None:
        self._reported: dict[str, str] = {}
        self._ticked_at = time.time()
        bind_to_public()
        verify_role()
        super().__init__(*args, **options)

    def tick(self, *args: Any, **options: Any) -> float:
        """Dispatch the next run, if one is due; the seconds to wait. What goes wrong is tried again."""
        self._watch_clock()
        try:
            pause: float = super().tick(*args, **options)
            self.after_tick()
        except Exception as error:
            is_outage = isinstance(error, InterfaceError | OperationalError)
            self._report("", f"Beat waits, and tries again: {error}", exc_info=not is_outage)
            connection.close()
            self.start_over()
            return PAUSE
        self._reported.pop("", None)
        return min(pause, float(settings.HEARTBEAT_SECONDS))

    def after_tick(self) -> None:
        """What else beat does, each time that it has looked."""

    def start_over(self) -> None:
        """Let the next tick read everything again."""
        self._heap = None
        self._initial_read = True

    def reserve(self, entry: StoredEntry) -> StoredEntry:
        """The schedule as it is after the run that is due."""
        following: StoredEntry = next(entry)
        self._schedule[entry.name] = following
        return following

    def sync(self) -> None:
        """Nothing is left to write."""

    def schedule_changed(self) -> bool:
        """Whether somebody has changed a schedule since the last look."""
        before, self._last_timestamp = self._last_timestamp, self.Changes.last_change()
        return self._last_timestamp != before

    def enabled_models_qs(self) -> "QuerySet[PeriodicTask]":
        """All of them: the library leaves out crontabs of other hours, so one that was missed would wait for its."""
        enabled: QuerySet[PeriodicTask] = PeriodicTask.objects.enabled()
        return enabled

    def enabled_models(self) -> list[PeriodicTask]:
        """As the library's. A row that can't be read, such as one of a time zone that is no more, is left out."""
        try:
            return list(self.enabled_models_qs())
        except (DataError, ValueError, ValidationError):
            names = PeriodicTask.objects.filter(enabled=True).values_list("pk", "name")
            found = [self._read_row(key, name) for key, name in names]
            return [model for model in found if model is not None]

    def _read_row(self, key: int, name: str) -> PeriodicTask | None:
        try:
            found: PeriodicTask = self.enabled_models_qs().get(pk=key)
        except Exception as error:
            self._report(name, f"The schedule {name!r} can't be read: {type(error).__name__}: {error}")
            return None
        return found

    def all_as_schedule(self) -> dict[str, StoredEntry]:
        """The schedules that can be run. What is wrong with one does not stop the others, and is reported once."""
        read = (self._read(model) for model in self.enabled_models())
        return {entry.name: entry for entry in read if entry is not None}

    def _read(self, model: PeriodicTask) -> StoredEntry | None:
        try:
            entry: StoredEntry = self.Entry(model, app=self.app)
        except Exception as error:
            self._report(model.name, f"The schedule {model.name!r} can't run: {type(error).__name__}: {error}")
            return None
        self._reported.pop(model.name, None)
        return entry

    def _is_due_failed(self, entry: StoredEntry) -> tuple[bool, float]:
        """What Celery asks for a schedule whose next run it can't calculate, each time that it looks."""
        self._report(entry.name, f"The next run of {entry.name!r} can't be calculated.", exc_info=True)
        return False, self.max_interval

    def _watch_clock(self) -> None:
        # What was to come at a time of the clock before would wait until the clock is there again.
        before, self._ticked_at = self._ticked_at, time.time()
        if self._ticked_at < before:
            self.start_over()

    def _report(self, subject: str, message: str, *, exc_info: bool = False) -> None:
        if self._reported.get(subject) != message:
            self._reported[subject] = message
            logger.error(message, exc_info=exc_info)


def _before_the_first_run(model: PeriodicTask) -> datetime:
    """What a first run counts from. One with a start time is due when that has come."""
    created: datetime = model.date_changed or timezone.now()
    return created - LONG_AGO if model.start_time else created
