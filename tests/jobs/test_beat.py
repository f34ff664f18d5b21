"""Periodic tasks: each run that is due is one durable job, whatever becomes of beat, the broker or the clock."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import current_app
from celery.beat import Scheduler
from celery.utils.imports import symbol_by_name
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from django_celery_beat.tzcrontab import TzAwareCrontab

from devstack.ports import free_port
from jobs import schedules
from jobs.models import Job
from jobs.tasks import run_in_each_tenant
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.conftest import RESULTS
from tests.jobs.durables import groups, mark, sql
from tests.jobs.owners import looks
from tests.people import at_once

HOUR = timedelta(hours=1)
Make = Callable[..., PeriodicTask]


@pytest.fixture
def schedule(committed_db: None) -> Iterator[Make]:
    """Makes schedules, hourly ones that are due unless told otherwise. There are no others meanwhile."""
    current_app.loader.import_default_modules()
    others = PeriodicTask.objects.filter(enabled=True)
    kept = list(others.values_list("pk", flat=True))
    others.update(enabled=False)

    def make(name: str = "hourly", **fields: Any) -> PeriodicTask:
        if not {"interval", "crontab", "clocked", "solar"} & set(fields):
            fields["interval"] = every(1, IntervalSchedule.HOURS)
        fields = {"task": mark.name, "args": json.dumps([name]), "last_run_at": timezone.now() - 3 * HOUR, **fields}
        return PeriodicTask.objects.create(name=name, **fields)

    yield make
    PeriodicTask.objects.exclude(pk__in=kept).delete()
    for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule):
        model.objects.filter(periodictask=None).delete()
    PeriodicTask.objects.filter(pk__in=kept).update(enabled=True)


def every(number: int, period: str) -> IntervalSchedule:
    return IntervalSchedule.objects.get_or_create(every=number, period=period)[0]


def beat() -> Scheduler:
    """Beat's scheduler in this process, with the schedules read, and none but the test's."""
    scheduler = symbol_by_name(settings.CELERY_BEAT_SCHEDULER)(app=current_app._get_current_object())
    PeriodicTask.objects.filter(name="celery.backend_cleanup").update(enabled=False)
    return scheduler


def tick(scheduler: Scheduler) -> None:
    """Until nothing is due."""
    for _ in range(100):
        if scheduler.tick() > 0:
            return
    raise AssertionError("something is due again and again")


def waiting() -> list[list[Any]]:
    """The arguments of the jobs that wait, in the order of dispatch."""
    return [json.loads(args) for args in Job.objects.order_by("seq").values_list("args", flat=True)]


def test_a_run_that_is_due_is_a_row_and_noted_with_it(schedule: Make) -> None:
    periodic = schedule("one")
    tick(beat())
    job = Job.objects.get()
    assert (job.task, job.tenant, job.schedule, job.args) == (mark.name, None, "one", '["one"]')
    periodic.refresh_from_db()
    assert periodic.total_run_count == 1
    assert timezone.now() - periodic.last_run_at < HOUR / 2


def test_the_run_ends_in_public(schedule: Make, run_jobs: Callable[[], int]) -> None:
    schedule("one")
    tick(beat())
    run_jobs()
    assert groups("public") == ["one"]


def test_a_broker_that_is_away_does_not_matter(schedule: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(current_app.conf, "broker_url", f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setitem(current_app.conf, "broker_connection_max_retries", 1)
    schedule("one")
    tick(beat())
    assert waiting() == [["one"]]


def test_a_beat_that_starts_again_does_not_repeat_what_the_killed_one_has_sent(schedule: Make) -> None:
    schedule("one")
    tick(beat())
    Job.objects.all().delete()
    tick(beat())
    assert waiting() == []


@pytest.mark.parametrize("table", ["jobs_job", "django_celery_beat_periodictask"])
def test_neither_half_is_there_without_the_other(schedule: Make, table: str) -> None:
    """The database refuses one of the two; beat tries again, when it can."""
    periodic = schedule("one")
    scheduler = beat()
    event = "INSERT" if table == "jobs_job" else "UPDATE"
    sql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE disk_full; END $$;"
        f"CREATE TRIGGER refuse BEFORE {event} ON public.{table} FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )
    try:
        for _ in range(5):
            scheduler.tick()
        periodic.refresh_from_db()
        assert (waiting(), periodic.total_run_count) == ([], 0)
    finally:
        sql(f"DROP TRIGGER refuse ON public.{table}; DROP FUNCTION public.refuse()")
    tick(scheduler)
    periodic.refresh_from_db()
    assert (waiting(), periodic.total_run_count) == ([["one"]], 1)


def test_two_beats_that_overlap_dispatch_one_run(schedule: Make) -> None:
    periodic = schedule("one")
    first, second = beat(), beat()
    tick(first)
    Job.objects.all().delete()
    tick(second)
    periodic.refresh_from_db()
    assert (waiting(), periodic.total_run_count) == ([], 1)


def test_two_beats_at_the_same_moment_dispatch_one_run_of_each(schedule: Make) -> None:
    names = [f"schedule {number}" for number in range(20)]
    periodics = [schedule(name) for name in names]
    first, second = beat(), beat()
    at_once(lambda: tick(first), lambda: tick(second))
    assert sorted(waiting()) == sorted([name] for name in names)
    counts = PeriodicTask.objects.filter(pk__in=[each.pk for each in periodics]).values_list("total_run_count")
    assert set(counts) == {(1,)}


def test_the_second_of_two_beats_goes_on_when_the_first_ends(schedule: Make) -> None:
    periodic = schedule("one", interval=every(1, IntervalSchedule.SECONDS))
    first, second = beat(), beat()
    tick(first)
    tick(second)
    Job.objects.all().delete()
    PeriodicTask.objects.filter(pk=periodic.pk).update(last_run_at=timezone.now() - HOUR)
    PeriodicTasks.update_changed()
    tick(second)
    assert waiting() == [["one"]]


def test_three_hours_without_a_worker_are_one_run(schedule: Make, run_jobs: Callable[[], int]) -> None:
    periodic = schedule("one")
    for _ in range(3):
        PeriodicTask.objects.filter(pk=periodic.pk).update(last_run_at=timezone.now() - 2 * HOUR)
        tick(beat())
    assert waiting() == [["one"]]
    periodic.refresh_from_db()
    assert periodic.total_run_count == 3
    assert run_jobs() == 1
    PeriodicTask.objects.filter(pk=periodic.pk).update(last_run_at=timezone.now() - 2 * HOUR)
    tick(beat())
    assert waiting() == [["one"]]


def test_a_run_that_has_begun_does_not_stand_for_the_next(schedule: Make) -> None:
    periodic = schedule("one")
    tick(beat())
    Job.objects.update(attempt=1, due_at=timezone.now() + HOUR)  # as one that is to be tried again
    PeriodicTask.objects.filter(pk=periodic.pk).update(last_run_at=timezone.now() - 2 * HOUR)
    tick(beat())
    assert waiting() == [["one"], ["one"]]


def test_a_run_that_waits_runs_as_the_schedule_says_by_then(schedule: Make) -> None:
    """Its arguments were wrong and are mended, and it expires when the later one would."""
    periodic = schedule("one", expire_seconds=60)
    tick(beat())
    Job.objects.update(expires_at=timezone.now() - HOUR)  # no relay was there to end it
    PeriodicTask.objects.filter(pk=periodic.pk).update(last_run_at=timezone.now() - 2 * HOUR, args='["two"]')
    tick(beat())
    assert waiting() == [["two"]]
    assert Job.objects.filter(expires_at__gt=timezone.now()).exists()


def test_the_database_may_be_away_for_a_while(schedule: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule("one")
    scheduler = beat()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "PORT", str(free_port()))
        connection.close()
        assert all(scheduler.tick() > 0 for _ in range(3))
    connection.close()
    tick(scheduler)
    assert waiting() == [["one"]]


def test_a_session_that_the_database_has_ended_is_replaced(schedule: Make) -> None:
    schedule("one")
    scheduler = beat()
    with pytest.raises(OperationalError):
        sql("SELECT pg_terminate_backend(pg_backend_pid())")
    for _ in range(3):
        scheduler.tick()
    assert waiting() == [["one"]]


# What people do to schedules


def test_a_schedule_that_is_switched_off_does_not_run_from_that_moment(schedule: Make) -> None:
    periodic = schedule("one")
    scheduler = beat()
    PeriodicTask.objects.filter(pk=periodic.pk).update(enabled=False)
    tick(scheduler)
    assert waiting() == []


def test_a_schedule_that_is_deleted_does_not_run_from_that_moment(schedule: Make) -> None:
    periodic = schedule("one")
    scheduler = beat()
    periodic.delete()
    tick(scheduler)
    assert waiting() == []


def test_a_schedule_that_is_edited_runs_as_it_is_by_then(schedule: Make) -> None:
    periodic = schedule("one")
    scheduler = beat()
    periodic.args = '["edited"]'
    periodic.save()
    tick(scheduler)
    assert waiting() == [["edited"]]


def test_one_that_is_made_just_after_the_start_is_not_missed(schedule: Make) -> None:
    scheduler = beat()
    schedule("one")
    tick(scheduler)
    assert waiting() == [["one"]]


def test_a_one_off_run_happens_once_whoever_reads_it(schedule: Make) -> None:
    periodic = schedule("one", one_off=True)
    first, second = beat(), beat()
    tick(first)
    tick(second)
    Job.objects.all().delete()
    for scheduler in (first, second, beat()):
        tick(scheduler)
    periodic.refresh_from_db()
    assert (waiting(), periodic.enabled, periodic.total_run_count) == ([], False, 0)


def test_a_one_off_run_that_is_switched_on_again_happens_again(schedule: Make) -> None:
    periodic = schedule("one", one_off=True)
    tick(beat())
    PeriodicTask.objects.filter(pk=periodic.pk).update(enabled=True, last_run_at=timezone.now() - 2 * HOUR)
    Job.objects.all().delete()
    tick(beat())
    assert waiting() == [["one"]]


def test_a_clocked_run_that_came_due_while_beat_was_away_happens(schedule: Make) -> None:
    clocked = ClockedSchedule.objects.create(clocked_time=timezone.now() - HOUR)
    schedule("one", clocked=clocked, one_off=True, last_run_at=None)
    for _ in range(2):
        tick(beat())
    assert waiting() == [["one"]]


@pytest.mark.parametrize("hours_ago", [3, 6, 12, 20])
def test_a_daily_run_that_came_due_while_beat_was_away_happens_when_it_is_back(schedule: Make, hours_ago: int) -> None:
    missed = timezone.now() - hours_ago * HOUR
    crontab = CrontabSchedule.objects.create(minute=str(missed.minute), hour=str(missed.hour))
    schedule("one", crontab=crontab, last_run_at=missed - 24 * HOUR)
    for _ in range(2):
        tick(beat())
    assert waiting() == [["one"]]


def test_a_crontab_has_its_own_time_zone(schedule: Make) -> None:
    """An hour ago in Tokyo is eight hours ahead here."""
    ago = timezone.now() - HOUR
    there = ago.astimezone(ZoneInfo("Asia/Tokyo"))
    of_tokyo = CrontabSchedule.objects.create(minute=str(there.minute), hour=str(there.hour), timezone="Asia/Tokyo")
    of_utc = CrontabSchedule.objects.create(minute=str(there.minute), hour=str(there.hour))
    schedule("Tokyo", crontab=of_tokyo, last_run_at=ago - HOUR)
    schedule("UTC", crontab=of_utc, last_run_at=ago - HOUR)
    tick(beat())
    assert waiting() == [["Tokyo"]]


@pytest.mark.parametrize("night", ["2026-03-29", "2026-10-25"])
def test_half_past_two_has_one_run_in_the_night_in_which_it_is_missing_or_comes_twice(
    schedule: Make, monkeypatch: pytest.MonkeyPatch, night: str
) -> None:
    crontab = CrontabSchedule.objects.create(minute="30", hour="2", timezone="Europe/Berlin")
    begin = datetime.fromisoformat(f"{night}T00:00:00+00:00") - HOUR
    entry = beat().Entry(schedule("one", crontab=crontab, last_run_at=begin - 12 * HOUR), app=current_app)
    clock = [begin + number * HOUR / 4 for number in range(40)]
    runs = []
    for now in clock:
        monkeypatch.setattr(TzAwareCrontab, "now", lambda self, now=now: now.astimezone(self.tz))
        if entry.is_due().is_due:
            runs.append(now)
            entry.last_run_at = now
    assert len(runs) == 1, runs


def test_what_starts_later_does_not_run_before(schedule: Make) -> None:
    periodic = schedule("one", start_time=timezone.now() + HOUR, last_run_at=None)
    tick(beat())
    assert waiting() == []
    PeriodicTask.objects.filter(pk=periodic.pk).update(start_time=timezone.now() - timedelta(seconds=1))
    tick(beat())
    assert waiting() == [["one"]]


def test_a_schedule_that_has_expired_is_switched_off_and_keeps_what_people_have_changed(schedule: Make) -> None:
    gone = schedule("gone", expires=timezone.now() - HOUR)
    prolonged = schedule("prolonged", expires=timezone.now() + timedelta(seconds=1))
    scheduler = beat()
    prolonged.expires = timezone.now() + HOUR
    prolonged.save()
    tick(scheduler)
    gone.refresh_from_db()
    assert (waiting(), gone.enabled) == ([["prolonged"]], False)


def test_the_job_expires_as_the_schedule_says(schedule: Make) -> None:
    schedule("one", expire_seconds=60)
    tick(beat())
    now = timezone.now()
    assert Job.objects.filter(expires_at__gt=now, expires_at__lte=now + timedelta(seconds=60)).exists()


def test_a_last_run_in_the_future_does_not_silence_a_schedule(schedule: Make) -> None:
    """A clock that was years ahead has written it."""
    periodic = schedule("one", last_run_at=timezone.now() + 1000 * HOUR, interval=every(1, IntervalSchedule.SECONDS))
    scheduler = beat()
    deadline = timezone.now() + timedelta(seconds=20)
    while not waiting() and timezone.now() < deadline:
        scheduler.tick()
    periodic.refresh_from_db()
    assert waiting() == [["one"]]
    assert periodic.last_run_at < timezone.now()


def test_a_clock_that_is_set_back_silences_nothing(schedule: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What beat plans to look at by the old clock is read again."""
    periodic = schedule("one", last_run_at=timezone.now())
    scheduler = beat()
    tick(scheduler)
    PeriodicTask.objects.filter(pk=periodic.pk).update(last_run_at=timezone.now() - 2 * HOUR)
    tick(scheduler)
    assert waiting() == []
    yesterday = time.time() - 24 * 3600
    with monkeypatch.context() as set_back:
        set_back.setattr(time, "time", lambda: yesterday)
        tick(scheduler)
    assert waiting() == [["one"]]


def test_the_clock_of_another_beat_that_is_a_bit_ahead_repeats_nothing(schedule: Make) -> None:
    """That one ran it at the minute, which is still to come here."""
    soon = timezone.now() + timedelta(seconds=30)
    crontab = CrontabSchedule.objects.create(minute=str(soon.minute), hour=str(soon.hour))
    schedule("one", crontab=crontab, last_run_at=soon.replace(second=0) + timedelta(seconds=31))
    tick(beat())
    assert waiting() == []


def test_a_beat_that_starts_often_still_runs_what_stands_in_the_settings(
    schedule: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"task": mark.name, "schedule": timedelta(hours=1), "args": ["one"]}
    monkeypatch.setitem(current_app.conf, "beat_schedule", {"of the settings": entry})
    beat()
    PeriodicTask.objects.filter(name="of the settings").update(date_changed=timezone.now() - 2 * HOUR)
    tick(beat())
    assert waiting() == [["one"]]


# What can't be a durable job

REFUSED: dict[str, dict[str, Any]] = {
    "a queue": {"queue": "celery"},
    "an exchange": {"exchange": "somewhere"},
    "a routing key": {"routing_key": "somewhere"},
    "a priority": {"priority": 0},
    "headers": {"headers": '{"x": 1}'},
    "headers that are no JSON": {"headers": "{"},
    "headers that are a list": {"headers": "[]"},
    "another place": {"headers": '{"run_in": "mars"}'},
    "a place that is a list": {"headers": '{"run_in": []}'},
    "arguments that are no JSON": {"args": "[1,"},
    "arguments that are no list": {"args": '{"name": 1}'},
    "arguments that are a number": {"args": "1"},
    "keyword arguments that are a list": {"kwargs": "[1]"},
    "arguments that the body does not take": {"args": "[1, 2, 3]"},
    "a task that needs a tenant": {"task": "notifications.tasks.deliver_message", "args": '["1"]'},
    "a task of the platform's": {"task": "tenants.tasks.fill_spares", "args": "[]", "headers": '{"run_in": "tenants"}'},
    "runs that expire at once": {"expire_seconds": 0},
    "the tenants' expire at once": {"expire_seconds": 0, "headers": '{"run_in": "tenants"}'},
    "the fan-out itself": {"task": schedules.FAN_OUT, "args": '["x", [], {}]'},
}


def read_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    """Beat reads all schedules three times."""
    with caplog.at_level(logging.ERROR):
        scheduler = beat()
        for _ in range(3):
            PeriodicTasks.update_changed()
            tick(scheduler)


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_run_is_reported_once_and_stops_nothing(
    schedule: Make, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = schedule("odd", **REFUSED[case])
    before = PeriodicTask.objects.values().get(pk=refused.pk)
    schedule("good")
    read_again_and_again(caplog)
    assert waiting() == [["good"]]
    [record] = [record for record in caplog.records if "odd" in record.getMessage()]
    assert not record.exc_info
    assert PeriodicTask.objects.values().get(pk=refused.pk) == before


# By SQL, or of a release or a system that knew more time zones.
UNREADABLE = {
    "an infinite expiry": "UPDATE django_celery_beat_periodictask SET expires = 'infinity' WHERE name = 'odd'",
    "a start before all time": "UPDATE django_celery_beat_periodictask SET start_time = '-infinity' WHERE name = 'odd'",
    "a last run before Christ": (
        "UPDATE django_celery_beat_periodictask SET last_run_at = '0044-03-15 BC' WHERE name = 'odd'"
    ),
    "a time zone that is no more": (
        "INSERT INTO django_celery_beat_crontabschedule (minute, hour, day_of_week, day_of_month, month_of_year,"
        " timezone) VALUES ('0', '0', '*', '*', '*', 'Mars/X');"
        "UPDATE django_celery_beat_periodictask SET interval_id = NULL, crontab_id ="
        " (SELECT id FROM django_celery_beat_crontabschedule WHERE timezone = 'Mars/X') WHERE name = 'odd'"
    ),
    "no task": "UPDATE django_celery_beat_periodictask SET task = '' WHERE name = 'odd'",
    "an interval of nothing": "UPDATE django_celery_beat_intervalschedule SET every = 0 WHERE id ="
    " (SELECT interval_id FROM django_celery_beat_periodictask WHERE name = 'odd')",
}


FORGET_ODD = (
    "DELETE FROM django_celery_beat_periodictask WHERE name = 'odd';"
    "DELETE FROM django_celery_beat_crontabschedule WHERE timezone = 'Mars/X'"
)


@pytest.fixture
def _forget_odd(schedule: Make) -> Iterator[None]:
    yield
    # Not by the ORM, which would have to read it.
    sql(FORGET_ODD)


@pytest.mark.usefixtures("_forget_odd")
@pytest.mark.parametrize("case", UNREADABLE)
def test_a_row_that_can_not_be_read_stops_nothing(schedule: Make, case: str, caplog: pytest.LogCaptureFixture) -> None:
    schedule("odd", interval=every(7, IntervalSchedule.SECONDS))
    schedule("good")
    sql(UNREADABLE[case])
    read_again_and_again(caplog)
    assert waiting() == [["good"]]
    assert len([record for record in caplog.records if "odd" in record.getMessage()]) == 1


def test_a_schedule_that_has_run_as_often_as_can_be_counted_runs_on(schedule: Make) -> None:
    schedule("one", total_run_count=2**31 - 1)
    tick(beat())
    assert waiting() == [["one"]]


def test_what_was_refused_runs_when_it_is_mended(schedule: Make) -> None:
    periodic = schedule("one", queue="celery")
    scheduler = beat()
    tick(scheduler)
    periodic.queue = None
    periodic.save()
    tick(scheduler)
    assert waiting() == [["one"]]


def test_a_schedule_that_can_not_be_calculated_stops_nothing(schedule: Make, caplog: pytest.LogCaptureFixture) -> None:
    schedule("no such minute", crontab=CrontabSchedule.objects.create(minute="99", hour="x"))
    schedule("ages", interval=every(2_000_000_000, IntervalSchedule.DAYS))
    schedule("good")
    scheduler = beat()
    for _ in range(3):
        tick(scheduler)
    assert waiting() == [["good"]]
    assert len([record for record in caplog.records if "no such minute" in record.getMessage()]) == 1


def test_a_schedule_that_fails_when_it_is_asked_is_reported_once(
    schedule: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sun's at the poles does. Celery asks again at each look."""

    def is_due(self: TzAwareCrontab, last_run_at: datetime) -> None:
        raise ValueError("the sun does not rise")

    schedule("polar", crontab=CrontabSchedule.objects.create(minute="0", hour="0"))
    schedule("good")
    monkeypatch.setattr(TzAwareCrontab, "is_due", is_due)
    scheduler = beat()
    monkeypatch.setattr(scheduler, "max_interval", 0.01)
    for _ in range(20):
        scheduler.tick()
        time.sleep(0.01)
    assert waiting() == [["good"]]
    assert len([record for record in caplog.records if "polar" in record.getMessage()]) == 1


def test_json_comes_out_as_it_went_in(schedule: Make) -> None:
    schedule("one", task=looks.name, args='[{"__type__": "x", "__value__": 1}]')
    tick(beat())
    assert Job.objects.get().args == '[{"__type__": "x", "__value__": 1}]'


def test_a_task_that_only_the_workers_know_is_dispatched(schedule: Make) -> None:
    schedule("one", task="elsewhere.tasks.unknown")
    tick(beat())
    assert Job.objects.get().task == "elsewhere.tasks.unknown"


# Where it runs


def test_a_schedule_may_run_in_each_tenant(
    schedule: Make, acme: Tenant, globex: Tenant, run_jobs: Callable[[], int]
) -> None:
    Tenant.objects.filter(pk=globex.pk).update(status="suspended")
    schedule("one", headers='{"run_in": "tenants"}')
    tick(beat())
    tick(beat())
    assert run_jobs() == 2
    assert [groups(schema) for schema in ("public", acme.schema_name, globex.schema_name)] == [[], ["one"], []]


def test_the_tenants_jobs_expire_too(schedule: Make, acme: Tenant, run_jobs: Callable[..., int]) -> None:
    schedule("one", headers='{"run_in": "tenants"}', expire_seconds=60)
    tick(beat())
    run_jobs(limit=1)
    assert [job.tenant for job in Job.objects.filter(expires_at__gt=timezone.now())] != []


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize(("seconds", "left"), [(0, 0), (60, 1), (None, 1)])
def test_a_fan_out_takes_no_seconds_for_none_at_all(
    acme: Tenant, run_jobs: Callable[..., int], seconds: float | None, left: int
) -> None:
    run_in_each_tenant.delay_on_commit(mark.name, ["one"], {}, expire_seconds=seconds)
    run_jobs()
    assert len(groups(acme.schema_name)) == left


def test_the_cleanup_of_results_runs_as_a_job(schedule: Make, run_jobs: Callable[[], int]) -> None:
    cleanup = current_app.tasks["celery.backend_cleanup"]
    assert not cleanup.atomic
    schedule("cleanup", task=cleanup.name, args="[]")
    tick(beat())
    run_jobs()
    assert sql(f"SELECT status FROM public.{RESULTS}") == [("SUCCESS",)]
