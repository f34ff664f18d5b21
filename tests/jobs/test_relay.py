"""The relay: the one publisher. It marks before it sends, and leaves nobody behind."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from celery import current_app
from celery.app import app_or_default
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import QuerySet
from django_tenants.utils import schema_context
from kombu.exceptions import OperationalError
from pytest_django import Settings

from devstack.processes import Process
from jobs import endings, statements
from jobs.claim import NO_TOKEN, claim, poison_limits
from jobs.models import Heartbeat, Job
from jobs.outbox import Terms
from jobs.relay import line, maintenance
from jobs.relay import statements as relay_statements
from jobs.relay.line import BATCH, Due
from jobs.relay.process import BY_INDEX, Relay
from jobs.relay.publisher import MIN_DEPTH, Publisher
from tenants.models import Tenant
from tenants.services import delete_tenant, resume_tenant, suspend_tenant
from tests.jobs.conftest import eventually, out_of_bounds
from tests.jobs.durables import PARKING, atomic, bodies, end_other_sessions, new_relay, queue_length, result_of, sql
from tests.jobs.probes import probe
from tests.people import at_once

RunJobs = Callable[..., int]


@pytest.fixture
def fast_relay(settings: Settings) -> Iterator[Relay]:
    """One that looks at each tick for rows whose time has come."""
    settings.RELAY_IDLE_POLL = 0
    current_app.control.purge()
    yield new_relay()
    current_app.control.purge()


def dispatch(tenant: Tenant, number: int = 1, **options: Any) -> list[str]:
    with schema_context(tenant.schema_name):
        ids: list[str] = probe.map_on_commit([("name",)] * number, **options)
    return ids


def later() -> None:
    """It is later: the time of every row that is waiting for one has come."""
    past = "due_at = clock_timestamp(), next_send_at = clock_timestamp()"
    sql(f"UPDATE public.jobs_job SET {past} WHERE next_send_at < '9000-01-01'")


# Sending


@pytest.mark.usefixtures("committed_db")
def test_a_row_is_marked_and_free_before_it_is_published(acme: Tenant) -> None:
    dispatch(acme)
    seen: list[Any] = []
    look = "SELECT sends, next_send_at > clock_timestamp(), tag FROM public.jobs_job FOR UPDATE NOWAIT"
    relay_that_sends(lambda job, producer: seen.extend(at_once(lambda: sql(look)))).tick()
    assert seen == [[(1, True, None)]]


def test_what_was_marked_but_never_arrived_is_sent_again_later_each_time(
    acme: Tenant, fast_relay: Relay, settings: Settings
) -> None:
    settings.JOB_MAX_RESEND = 35
    dispatch(acme)
    waits = []
    for _ in range(4):
        line.wake()
        assert len(line.mark(10)) == 1
        [[wait]] = sql("SELECT extract(epoch FROM next_send_at - clock_timestamp()) FROM public.jobs_job")
        waits.append(round(wait))
        assert line.wake() == 0
        later()
    assert waits == [10, 20, 35, 35]


@pytest.mark.usefixtures("committed_db")
def test_a_failure_to_publish_loses_nothing(acme: Tenant, fast_relay: Relay) -> None:
    dispatch(acme, 2)
    with pytest.raises(OperationalError):
        relay_that_sends(raise_outage).tick()
    assert fast_relay.tick() == 0
    later()
    fast_relay.tick()
    assert queue_length() == 2


def relay_that_sends(send_job: Callable[..., None]) -> Relay:
    """By this, in place of the app's way."""
    return Relay(Publisher(app_or_default(), send_job))


@pytest.mark.usefixtures("committed_db")
def test_a_batch_that_failed_is_not_taken_for_one_that_workers_drained(acme: Tenant, fast_relay: Relay) -> None:
    """Or the next one would be twice as deep, with nobody there to take it."""
    dispatch(acme, 2)
    sent: list[Due] = []

    def send_job(job: Due, *, producer: Any) -> None:
        sent.append(job)
        if len(sent) == 2:
            raise OperationalError("the broker is away")
        app.send_job(job, producer=producer)

    app: Any = app_or_default()
    publisher = Publisher(app, send_job)
    with pytest.raises(OperationalError):
        Relay(publisher).tick()
    publisher.close()
    assert (publisher.room(), publisher.drained) == (MIN_DEPTH, 0)


def raise_outage(*args: Any, **options: Any) -> None:
    raise OperationalError("the broker is away")


def exit_at_once(*args: Any, **options: Any) -> None:
    raise SystemExit


def test_nothing_is_marked_while_the_broker_is_away(acme: Tenant) -> None:
    dispatch(acme)
    app: Any = app_or_default()
    away = Publisher(app, app.send_job, broker=app.connection_for_write("redis://127.0.0.1:1/0"))
    with pytest.raises(away.outages):
        Relay(away).tick()
    assert [(job.sends, job.tag is None) for job in Job.objects.all()] == [(0, False)]


@pytest.mark.usefixtures("committed_db")
def test_it_goes_on_after_any_error(acme: Tenant, settings: Settings) -> None:
    settings.JOB_FIRST_RESEND = settings.RELAY_IDLE_POLL = 0
    errors = [OperationalError("the broker is away"), ValueError("a bug")]
    sent: list[str] = []

    def send_job(job: Due, *, producer: Any) -> None:
        if errors:
            raise errors.pop(0)
        sent.append(str(job.id))
        relay.stop()

    [job_id] = dispatch(acme)
    relay = relay_that_sends(send_job)
    relay.run()
    assert (errors, sent) == ([], [job_id])


def test_a_leased_row_is_not_sent_until_its_lease_is_over(acme: Tenant) -> None:
    [job_id] = dispatch(acme)
    claim(job_id, task=probe.name, token=NO_TOKEN, hard_limit=30)
    assert (line.wake(), line.mark(10)) == (0, [])
    sql("UPDATE public.jobs_job SET lease_until = clock_timestamp(), next_send_at = clock_timestamp()")
    assert line.wake() == 1
    assert len(line.mark(10)) == 1


def test_a_row_in_the_line_that_an_old_message_claims_leaves_the_line(acme: Tenant) -> None:
    [job_id] = dispatch(acme)
    claim(job_id, task=probe.name, token=NO_TOKEN, hard_limit=30)
    assert Job.objects.get().tag is None
    assert line.mark(10) == []


@pytest.mark.usefixtures("committed_db")
def test_several_relays_at_once_send_each_row_once(acme: Tenant, globex: Tenant) -> None:
    ids = dispatch(acme, 150) + dispatch(globex, 150)

    def send() -> list[str]:
        sent: list[str] = []
        while due := line.mark(7):
            sent += [str(job.id) for job in due]
        return sent

    sent = at_once(*[send] * 4)
    assert sorted(chain(*sent)) == sorted(ids)
    assert len([part for part in sent if part]) > 1


@pytest.mark.usefixtures("committed_db")
def test_several_relays_at_once_wake_each_row_once(acme: Tenant) -> None:
    dispatch(acme, 300, countdown=60)
    later()
    assert sum(at_once(*[line.wake] * 4)) == 300


def test_the_broker_holds_few_messages(acme: Tenant, fast_relay: Relay) -> None:
    dispatch(acme, 50)
    for _ in range(5):
        fast_relay.tick()
    assert queue_length() == MIN_DEPTH


# Tenants that are suspended, resumed, deleted


def test_a_suspended_tenants_jobs_are_parked_and_hold_up_nobody(acme: Tenant, globex: Tenant) -> None:
    dispatch(acme, 30)
    suspend_tenant(acme)
    dispatch(globex)
    sql("UPDATE public.jobs_job SET tag = 100 WHERE tenant_id = %s", globex.id)  # behind them all
    assert [job.schema for job in line.mark(8)] == [globex.schema_name]
    assert line.wake() == 0
    assert not Job.objects.filter(tenant=acme, sends__gt=0).exists()


def test_parked_jobs_are_rows_as_any_other(acme: Tenant) -> None:
    dispatch(acme)
    suspend_tenant(acme)
    line.mark(8)
    assert Job.objects.get().next_send_at.year == 9999


def test_the_jobs_of_a_resumed_tenant_are_sent(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: "done")
    with schema_context(acme.schema_name):
        job_id, later_id = atomic.delay_on_commit(), atomic.apply_async_on_commit(countdown=60)
    suspend_tenant(acme)
    assert run_jobs(ahead=True) == 0
    resume_tenant(acme)
    assert run_jobs() == 2
    assert {result_of(acme.schema_name, id).status for id in (job_id, later_id)} == {"SUCCESS"}


def test_more_parked_jobs_than_a_batch_come_back(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch(acme, BATCH + 10)
    suspend_tenant(acme)
    assert line.mark(5000) == []
    resume_tenant(acme)
    maintenance.run_maintenance()
    assert len(line.mark(5000)) == BATCH + 10


def exists(tenant: Tenant) -> bool:
    left = sql(
        "SELECT 1 FROM pg_namespace WHERE nspname = 'doomed_1'"
        " UNION ALL SELECT 1 FROM public.tenants_tenant WHERE id = %s"
        " UNION ALL SELECT 1 FROM public.tenants_domain WHERE tenant_id = %s"
        " UNION ALL SELECT 1 FROM public.jobs_job WHERE tenant_id = %s",
        *[tenant.id] * 3,
    )
    return bool(left)


def test_a_deleted_tenants_jobs_never_run_and_nothing_of_it_stays(doomed: Tenant, run_jobs: RunJobs) -> None:
    runs: list[None] = []
    bodies(lambda task: runs.append(None))
    with schema_context(doomed.schema_name):
        atomic.delay_on_commit()
        atomic.apply_async_on_commit(countdown=60)
    sql("UPDATE public.jobs_job SET state = 'dead' WHERE tag IS NULL")
    delete_tenant(doomed)
    run_jobs()
    assert runs == []
    assert not exists(doomed)


def test_a_deletion_awaits_the_running_job(doomed: Tenant) -> None:
    running, _ = dispatch(doomed, 2)
    lease = claim(running, task=probe.name, token=NO_TOKEN, hard_limit=30)
    assert lease
    delete_tenant(doomed)
    maintenance.run_maintenance()
    assert [str(job.id) for job in Job.objects.all()] == [running]
    assert exists(doomed)
    endings.hand_back(lease.key, error=ValueError("back"))
    maintenance.run_maintenance()
    assert not exists(doomed)


def test_a_deletion_that_was_cut_off_is_resumed(doomed: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch(doomed)
    delete_tenant(doomed)
    with monkeypatch.context() as crash:
        crash.setattr(QuerySet, "delete", exit_at_once)
        with pytest.raises(SystemExit):
            maintenance.run_maintenance()
    connection.close()
    assert exists(doomed)
    maintenance.run_maintenance()
    assert not exists(doomed)


def test_a_request_under_way_holds_up_the_deletion_but_not_the_relay(doomed: Tenant, acme: Tenant) -> None:
    delete_tenant(doomed)
    under_way, looked = Event(), Event()

    def request() -> None:
        with transaction.atomic():
            sql("LOCK TABLE doomed_1.kept IN ACCESS SHARE MODE")
            under_way.set()
            assert looked.wait(10)

    def look() -> None:
        assert under_way.wait(10)
        maintenance.run_maintenance()
        looked.set()

    at_once(request, look)
    assert exists(doomed)
    maintenance.run_maintenance()
    assert not exists(doomed)


# What it costs

ONE = {**Terms.of(probe.name, {}).parameters(), "id": str(uuid.uuid4()), "args": "[]", "kwargs": "{}"}
FIFTY = {**ONE, "ids": [str(uuid.uuid4()) for _ in range(50)], "args": 50 * ["[]"], "kwargs": 50 * ["{}"], "codec": 1}
POISON = {**poison_limits(), "batch": BATCH, "take_over": True}
LOOK = {**POISON, "within": timedelta(days=9), "tenants": [NO_TOKEN]}
Statements = dict[str, dict[str, Any]]
STATEMENTS: Statements = {
    "CLAIM": {
        "task": probe.name,
        "lease": "15 s",
        "limit": "40 s",
        "renewal_interval": "5 s",
        "atomic": True,
        **poison_limits(),
    },
    "RENEW": {"ids": [NO_TOKEN], "tokens": [NO_TOKEN], "lease": "15 s"},
    "GATE": {"idle": "1s", "class": 1},
    "COMPLETE": {},
    "INSERT": ONE,
    "INSERT_MANY": FIFTY,
    "INSERT_FOR_EACH_TENANT": ONE,
}
OF_THE_RELAY: Statements = {
    "WAKE": LOOK,
    "FIND_TENANTS_THAT_WAIT": {**LOOK, "after": NO_TOKEN, "tenants": BATCH},
    "WAKE_EACH_TENANT": LOOK,
    "MARK": {
        "room": 20,
        "floor": 0,
        "passed_over": [NO_TOKEN],
        "served_at": -1,
        "served": [NO_TOKEN],
        "public": NO_TOKEN,
        "first": 10,
        "longest": 600,
        "take_over": True,
    },
    "RETAG_LATE": {"batch": BATCH},
    "RETAG": {"batch": BATCH, "ids": [NO_TOKEN]},
    "FIND_TENANTS_TO_UNPARK": {},
    "PRUNE_DEAD": {"days": timedelta(days=7), "batch": BATCH},
    "FIND_POISON": POISON,
    "FIND_EXPIRED": {"batch": BATCH},
    "FIND_UNKNOWN": {"batch": BATCH, "unknown_for": timedelta(days=1)},
}
NODES = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")


def insert(tenant: Tenant, number: int, *, due_at: str = "now()", next_send_at: str = "now()", tag: str = "n") -> None:
    sql(
        "INSERT INTO public.jobs_job (id, tenant_id, task, args, kwargs, link, link_error, request_id, due_at,"
        " next_send_at, tag, state, attempt, retries, kills, lost, sends, error, traceback, created_at)"
        f" SELECT gen_random_uuid(), %s, %s, '[]', '{{}}', '[]', '[]', '', {due_at}, {next_send_at}, {tag},"
        " 'waiting', 0, 0, 0, 0, 0, '', '', now() FROM generate_series(1, %s) n",
        tenant.id,
        probe.name,
        number,
    )


@pytest.fixture(params=["full", "empty"])
def crowd(committed_db: None, acme: Tenant, globex: Tenant, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """20,000 rows in the line, 20,000 due tomorrow, 20,000 of a suspended tenant; PostgreSQL believes the table to be
    as the parameter says: empty, if it looked just before the transaction that filled it committed.
    """
    sql("ALTER TABLE public.jobs_job SET (autovacuum_enabled = off)")
    sql("SELECT setval('public.jobs_virtual_time', 0)")
    suspend_tenant(globex)
    sql("ANALYZE public.jobs_job")
    with transaction.atomic():
        insert(acme, 20_000)
        insert(acme, 20_000, due_at="now() + interval '1 day'", next_send_at="now() + interval '1 day'", tag="NULL")
        insert(globex, 20_000, next_send_at=PARKING, tag="NULL")
        at_once(lambda: sql("VACUUM public.jobs_job"))
    if request.param == "full":
        sql("ANALYZE public.jobs_job")
    yield acme
    sql("ALTER TABLE public.jobs_job RESET (autovacuum_enabled)")


def test_no_statement_of_a_job_reads_the_whole_table(crowd: Tenant) -> None:
    [[some_id]] = sql("SELECT id FROM public.jobs_job WHERE tag = 10000")
    keys = {"id": str(some_id), "token": NO_TOKEN, "tenant": str(crowd.id), "schema": crowd.schema_name}
    read = {}
    with transaction.atomic():
        for name, parameters in STATEMENTS.items():
            read[name] = rows_that_it_reads(getattr(statements, name), {**keys, **parameters})
        sql(BY_INDEX)
        for name, parameters in OF_THE_RELAY.items():
            read[name] = rows_that_it_reads(getattr(relay_statements, name), {**keys, **parameters})
        transaction.set_rollback(True)
    assert {name: rows for name, rows in read.items() if rows > 100} == {}


@pytest.mark.parametrize("name", ["WAKE", "WAKE_EACH_TENANT", "RETAG_LATE"])
def test_a_statement_about_many_jobs_reads_little_more_than_those(crowd: Tenant, name: str) -> None:
    insert(crowd, BATCH, tag="NULL")
    sql("SELECT setval('public.jobs_virtual_time', %s)", BATCH)
    with transaction.atomic():
        sql(BY_INDEX)
        sql("SET LOCAL statement_timeout = '60s'")
        assert rows_that_it_reads(getattr(relay_statements, name), {**LOOK, "tenants": [crowd.id]}) < 5 * BATCH
        transaction.set_rollback(True)


@pytest.mark.usefixtures("committed_db")
def test_the_look_for_poison_reads_no_rows_that_are_due_later(acme: Tenant) -> None:
    """Half of all rows are due, as PostgreSQL knows; it does not know that those are in line."""
    when = "now() + mod(n, 2) * interval '1 day'"
    insert(acme, 200_000, due_at=when, next_send_at=when, tag="CASE mod(n, 2) WHEN 0 THEN n END")
    sql("VACUUM ANALYZE public.jobs_job")
    with transaction.atomic():
        sql(BY_INDEX)
        assert rows_that_it_reads(relay_statements.FIND_POISON, POISON) == 0
        transaction.set_rollback(True)


def test_a_place_in_line_is_found_by_index_and_once_for_many(crowd: Tenant) -> None:
    """By a function, whose plan the session keeps."""

    with transaction.atomic(), schema_context(crowd.schema_name):
        before = read_by_functions()
        assert sql("SELECT public.jobs_next_tag(%s)", crowd.id) == [(20_001,)]
        probe.map_on_commit([("one",)] * 100)
        assert read_by_functions() - before < 20


@pytest.mark.usefixtures("committed_db")
def test_a_place_in_line_is_found_by_index_where_all_rows_are_of_one_tenant(acme: Tenant, globex: Tenant) -> None:
    insert(acme, 60_000)
    sql("ANALYZE public.jobs_job")
    with transaction.atomic():
        sql("SELECT public.jobs_next_tag(%s)", globex.id)
        assert read_by_functions() < 20


@pytest.mark.usefixtures("committed_db")
def test_the_relay_plans_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> str:
        [[setting]] = sql("SHOW enable_sort")
        return str(setting)

    seen = []
    monkeypatch.setattr(Relay, "drain", lambda self: seen.append(shown()))
    call_command("relay", once=True)
    assert seen == ["off"]
    assert shown() == "on"


def rows_that_it_reads(statement: str, parameters: dict[str, Any]) -> int:
    """In a transaction. What a function reads is in no plan."""
    before = read_by_functions()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        planned = rows_read(cursor.fetchone()[0][0]["Plan"])
    return planned or read_by_functions() - before


def read_by_functions() -> int:
    """Rows of the table of jobs that this transaction has read, its plain statements' included."""
    relid = "relid = 'public.jobs_job'::regclass"
    [[rows]] = sql(f"SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE {relid}")
    return int(rows)


def rows_read(plan: dict[str, Any]) -> int:
    """Of the table of jobs, in all nodes of a plan."""
    of_jobs = plan.get("Relation Name") == "jobs_job" and plan["Node Type"] in NODES
    read = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if of_jobs else 0
    return int(read * plan["Actual Loops"]) + sum(rows_read(part) for part in plan.get("Plans", []))


# The process


@pytest.mark.usefixtures("committed_db")
def test_once_sends_all_that_is_due_and_ends(
    acme: Tenant, fast_relay: Relay, capsys: pytest.CaptureFixture[str]
) -> None:
    dispatch(acme, 30)
    dispatch(acme, countdown=60)
    call_command("relay", once=True)
    assert capsys.readouterr().out == "30 jobs\n"
    assert queue_length() == 30


DRAINING = """
import resource, django
from django.core.management import call_command
from tenants.binding import bind_to_public
django.setup()
bind_to_public()
call_command("relay", once=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.usefixtures("committed_db")
def test_the_memory_of_a_relay_does_not_follow_the_number_of_jobs(acme: Tenant) -> None:
    def memory(jobs: int) -> int:
        insert(acme, jobs)
        said = subprocess.run([sys.executable, "-c", DRAINING], capture_output=True, text=True, check=True).stdout
        current_app.control.purge()
        Job.objects.all().delete()  # or those that nobody has claimed in time are sent again
        count, kilobytes = said.splitlines()
        assert count == f"{jobs} jobs"
        return int(kilobytes)

    assert memory(20_000) < 1.05 * memory(1000)


def test_it_shows_a_pulse_and_ends_at_sigterm(relay: Process, acme: Tenant) -> None:
    eventually(Heartbeat.objects.exists, "a pulse")
    assert Heartbeat.objects.get().name.endswith(f":{relay.pid}")
    dispatch(acme)
    eventually(lambda: queue_length() == 1, "a message")
    relay.signal(signal.SIGTERM)
    eventually(lambda: not relay.running, "it ended")
    assert relay.returncode == 0
    assert "Traceback" not in relay.output
    current_app.control.purge()


@pytest.mark.usefixtures("committed_db")
def test_it_does_not_hang_for_ever(tmp_path: Path) -> None:
    """Its supervisor starts another one."""
    process = Process(
        "relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log", env=out_of_bounds(RELAY_STALL_SECONDS=1)
    )
    with process as hanging:
        eventually(Heartbeat.objects.exists, "a pulse")
        with transaction.atomic():
            sql("LOCK TABLE public.jobs_job IN ACCESS EXCLUSIVE MODE")
            eventually(lambda: not hanging.running, "it ended")
        assert hanging.returncode == 1
        assert "Timeout" in hanging.output


@pytest.mark.usefixtures("committed_db")
def test_it_outlives_the_loss_of_its_database_sessions(acme: Tenant, relay: Process) -> None:
    eventually(Heartbeat.objects.exists, "a pulse")
    end_other_sessions()
    dispatch(acme)
    eventually(lambda: queue_length() == 1, "a message")
    current_app.control.purge()
