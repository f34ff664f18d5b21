"""Beat's scheduler: each run of a schedule is a durable job."""

import logging
import time
from datetime import timedelta
from typing import Any, ClassVar

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from jobs import outbox, schedules
from tenants.binding import bind_to_public
from tenants.connection import connection
from tenants.role import verify_role

logger = logging.getLogger(__name__)

#: Seconds until beat tries again what went wrong.
PAUSE = 1.0
#: A last run that is further ahead than this was written by a clock that was wrong. Less may be another beat's clock.
CLOCK_TOLERANCE = timedelta(minutes=1)
LONG_AGO = timedelta(days=365 * 30)


class Schedule(ModelEntry):
    """A schedule as it was read, with what its runs are. Raises NotSchedulable for one that can't be run."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        # Not by super(), which disables a schedule whose arguments it can't read, by saving all of the row.
        self.run = schedules.run_of(model)
        self.app, self.model, self.name, self.task = app, model, model.name, model.task
        self.schedule = model.schedule
        self.args, self.kwargs, self.options = self.run.args, self.run.kwargs, {}
        self.total_run_count = model.total_run_count
        self.seen = model.last_run_at
        self.last_run_at = self.seen or _before_the_first_run(model)

    @classmethod
    def from_entry(cls, name: str, app: Any = None, **entry: Any) -> "Schedule":
        """The row of a schedule in the settings. It is written only if they have changed: a first run counts from
        there, and beat may start more often than the schedule is due.
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

    def __next__(self) -> "Schedule":
        if self.model.one_off:
            self.model.enabled, self.model.last_run_at = False, None
        else:
            self.model.last_run_at = timezone.now()
            self.model.total_run_count += 1
        return type(self)(self.model, app=self.app)

    def advance(self) -> bool:
        """Take the run that is due. False if another beat has taken it, or if the schedule is not as it was read."""
        if self.model.one_off:
            return self._as_read().update(enabled=False, last_run_at=None, total_run_count=0) == 1
        ran = {"last_run_at": self.model.last_run_at, "total_run_count": F("total_run_count") + 1}
        return self._as_read().update(**ran) == 1

    def _disable(self, model: PeriodicTask) -> None:
        # That of the library saves all of the row, over what somebody has changed meanwhile.
        model.enabled = False
        self._as_read().update(enabled=False, last_run_at=None)

    def _as_read(self) -> "QuerySet[PeriodicTask]":
        row = PeriodicTask.objects.filter(pk=self.model.pk, enabled=True, date_changed=self.model.date_changed)
        return row.filter(last_run_at=self.seen)


class TenantScheduler(DatabaseScheduler):
    """django-celery-beat's, whose runs are rows: a run that is due is dispatched, and noted, in one transaction.

    The schedule is in `public`. The scheduler looks at the database before Celery sends a signal, so that is bound
    here, and the role verified. Beat makes one for its banner first, which reads nothing, and which waits before beat
    has its handler of SIGTERM: that one makes a scheduler, too, to save its schedule, and would wait as well.
    """

    Entry = Schedule
    #: Celery connects to the broker when it asks for one.
    producer: ClassVar[None] = None

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
        except Exception as error:
            self._report("", f"Beat goes on when it can: {error}", exc_info=not _is_outage(error))
            connection.close()
            self._start_over()
            return PAUSE
        self._reported.pop("", None)
        return pause

    def reserve(self, entry: Schedule) -> Schedule:
        """The schedule as it is after the run that is due."""
        following = self._schedule[entry.name] = next(entry)
        return following

    def apply_entry(self, entry: Schedule, producer: None = None) -> None:
        """Dispatch the run that is due, once, whoever else tries."""
        with transaction.atomic():
            is_taken = entry.advance()
            is_new = is_taken and outbox.insert_run(entry.name, entry.run.terms, entry.run.args, entry.run.kwargs)
        if not is_taken:
            self._start_over()
        elif is_new:
            logger.info("Dispatched %s (%s)", entry.name, entry.task)
        else:
            logger.info("%s (%s) is due, and an earlier run waits still: that one stands for both", entry.name, entry.task)

    def sync(self) -> None:
        """Nothing is left to write."""

    def schedule_changed(self) -> bool:
        """Whether somebody has changed a schedule since the last look."""
        before, self._last_timestamp = self._last_timestamp, self.Changes.last_change()
        return bool(self._last_timestamp != before)

    def enabled_models_qs(self) -> "QuerySet[PeriodicTask]":
        """All of them: the library leaves out crontabs of other hours, so one that was missed would wait for its."""
        return PeriodicTask.objects.enabled()

    def all_as_schedule(self) -> dict[str, Schedule]:
        """The schedules that can be run. What is wrong with one does not stop the others, and is reported once."""
        read = (self._read(model) for model in self.enabled_models())
        return {entry.name: entry for entry in read if entry is not None}

    def _read(self, model: PeriodicTask) -> Schedule | None:
        try:
            entry = self.Entry(model, app=self.app)
        except Exception as error:
            is_known = isinstance(error, schedules.NotSchedulable)
            self._report(model.name, f"The schedule {model.name!r} can't run: {error}", exc_info=not is_known)
            return None
        self._reported.pop(model.name, None)
        return entry

    def _watch_clock(self) -> None:
        # What was to come at a time of the clock before would wait until the clock is there again.
        before, self._ticked_at = self._ticked_at, time.time()
        if self._ticked_at < before:
            self._start_over()

    def _start_over(self) -> None:
        """Let the next tick read everything again."""
        self._heap = None
        self._initial_read = True

    def _report(self, subject: str, message: str, *, exc_info: bool) -> None:
        if self._reported.get(subject) != message:
            self._reported[subject] = message
            logger.error(message, exc_info=exc_info)


def _before_the_first_run(model: PeriodicTask) -> Any:
    """What a first run counts from. One with a start time is due when that has come."""
    created = model.date_changed or timezone.now()
    return created - LONG_AGO if model.start_time else created


def _is_outage(error: Exception) -> bool:
    return isinstance(error, InterfaceError | OperationalError)
