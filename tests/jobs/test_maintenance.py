"""Maintenance stands alone: it never holds up publishing, and nothing that it can't handle holds up the rest."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from celery import current_app
from django.db import connection, transaction
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.claim import NO_TOKEN
from jobs.models import Heartbeat, Job
from jobs.relay import line, maintenance, statements
from jobs.relay.line import BATCH
from jobs.relay.maintenance import Maintenance, Turn
from tenants.models import Domain, Tenant
from tenants.services import delete_tenant, suspend_tenant
from tests.jobs.claims import OVER, change, lock_out
from tests.jobs.conftest import eventually, out_of_bounds
from tests.jobs.durables import PARKING, end_other_sessions, queue_length, result_of, sql
from tests.jobs.probes import probe
from tests.people import at_once

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture(autouse=True)
def _empty_queue() -> Iterator[None]:
    current_app.control.purge()
    yield
    current_app.control.purge()


def dispatch(tenant: Tenant, number: int = 1, **options: Any) -> list[str]:
    with schema_context(tenant.schema_name):
        ids: list[str] = probe.map_on_commit([("name",)] * number, **options)
    return ids


def expired(tenant: Tenant, number: int = 1) -> list[str]:
    ids = dispatch(tenant, number, countdown=3600)
    sql("UPDATE public.jobs_job SET expires_at = clock_timestamp() WHERE id = ANY(%s)", ids)
    return ids


def another_tenant(name: str) -> Tenant:
    tenant = Tenant.objects.create(slug=name, name=name, schema_name=f"{name}_1", status="active")
    Domain.objects.create(tenant=tenant, domain=f"{name}.localhost", is_primary=True)
    sql(f"CREATE SCHEMA {name}_1 CREATE TABLE kept ()")
    return tenant


def is_gone(tenant: Tenant) -> bool:
    return not Tenant.objects.filter(pk=tenant.pk).exists()


# Beside the publishing


def expire_one(tenant: Tenant) -> None:
    expired(tenant)


def poison_one(tenant: Tenant) -> None:
    [job_id] = dispatch(tenant, countdown=3600)
    change(job_id, "due_at = now(), next_send_at = now(), kills = 99")


def lock_results(tenant: Tenant) -> None:
    sql(f"LOCK TABLE {tenant.schema_name}.django_celery_results_taskresult IN ACCESS EXCLUSIVE MODE")


def read_a_table(tenant: Tenant) -> None:
    sql("LOCK TABLE doomed_1.kept IN ACCESS SHARE MODE")


def delete_doomed(tenant: Tenant) -> None:
    delete_tenant(Tenant.objects.get(slug="doomed"))


# Of this database: the server has others, whose tests run meanwhile.
WAITING = """
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = current_database() AND NOT granted
"""
# What somebody holds, and what maintenance has to do that has to wait for it.
WAITS: dict[str, tuple[Callable[[Tenant], Any], Callable[[Tenant], Any]]] = {
    "a job expires while its tenant is locked": (lock_out, expire_one),
    "a job is poison while its tenant is locked": (lock_out, poison_one),
    "a job expires while its tenant's results are locked": (lock_results, expire_one),
    "a tenant is deleted while somebody reads its tables": (read_a_table, delete_doomed),
}


@pytest.mark.parametrize("wait", WAITS)
def test_jobs_are_published_while_a_sweep_has_to_wait(
    acme: Tenant, globex: Tenant, doomed: Tenant, relay: Process, wait: str
) -> None:
    hold, arrange = WAITS[wait]
    holding, done = Event(), Event()

    def hold_on() -> None:
        with transaction.atomic():
            hold(acme)
            holding.set()
            assert done.wait(60)

    def publish() -> None:
        assert holding.wait(60)
        arrange(acme)
        try:
            eventually(lambda: sql(WAITING), "maintenance waits")
            for number in (1, 2):
                dispatch(globex)
                eventually(lambda: queue_length() == number, "it is published")  # noqa: B023  # it is called at once
        finally:
            done.set()

    eventually(Heartbeat.objects.exists, "a heartbeat")
    at_once(hold_on, publish)


def test_what_had_to_wait_is_done_when_it_can_be(acme: Tenant, relay: Process) -> None:
    with transaction.atomic():
        lock_results(acme)
        [job_id] = at_once(lambda: expired(acme))[0]
        eventually(lambda: "Could not end job" in relay.output, "it has waited")
    eventually(lambda: not at_once(Job.objects.exists)[0], "it is ended")
    assert result_of(acme.schema_name, job_id).status == "REVOKED"


def test_a_suspended_tenants_line_is_not_parked_while_others_wait(acme: Tenant, globex: Tenant) -> None:
    dispatch(acme, 1000)
    dispatch(globex)
    suspend_tenant(acme)
    with counted_statements() as counts:
        assert [job.schema for job in line.mark(8)] == [globex.schema_name]
    assert len(counts) <= 5


def test_what_is_behind_several_suspended_tenants_lines_is_found_in_few_looks(acme: Tenant, globex: Tenant) -> None:
    for name in ("one", "two", "three"):
        tenant = another_tenant(name)
        dispatch(tenant, 300)
        suspend_tenant(tenant)
    dispatch(globex)
    sql("UPDATE public.jobs_job SET tag = 1000 WHERE tenant_id = %s", globex.id)
    with counted_statements() as counts:
        assert [job.schema for job in line.mark(8)] == [globex.schema_name]
    assert len(counts) <= 5


def test_maintenance_parks_the_line_of_a_suspended_tenant(acme: Tenant, globex: Tenant) -> None:
    dispatch(acme, 2 * BATCH + 1)
    dispatch(globex, 3)
    suspend_tenant(acme)
    maintenance.run_maintenance()
    assert sql(f"SELECT count(*) FROM public.jobs_job WHERE next_send_at = {PARKING}") == [(2 * BATCH + 1,)]
    assert len(line.mark(8)) == 3


@contextmanager
def counted_statements() -> Iterator[list[int]]:
    """The row counts of the statements that this connection sends."""
    counts: list[int] = []

    def count(execute: Callable[..., Any], statement: str, parameters: Any, many: bool, context: Any) -> Any:
        result = execute(statement, parameters, many, context)
        counts.append(context["cursor"].rowcount)
        return result

    with connection.execute_wrapper(count):
        yield counts


# Rows and tenants in which something is wrong


def broken_arguments(acme: Tenant) -> str:
    [job_id] = expired(acme)
    change(job_id, "codec = 0, args = '{'")
    return job_id


def broken_links(acme: Tenant) -> str:
    [job_id] = dispatch(acme, countdown=3600)
    change(job_id, "due_at = now(), next_send_at = now(), kills = 99, link_error = '[{}]'")
    return job_id


def no_schema(acme: Tenant) -> str:
    [job_id] = expired(another_tenant("hollow"))
    sql("DROP SCHEMA hollow_1 CASCADE")
    return job_id


def no_table_of_results(acme: Tenant) -> str:
    [job_id] = expired(another_tenant("bare"))
    return job_id


BROKEN = (broken_arguments, broken_links, no_schema, no_table_of_results)


@pytest.mark.parametrize("break_row", BROKEN)
def test_a_row_that_cannot_be_ended_stops_nothing(
    acme: Tenant, globex: Tenant, doomed: Tenant, relay: Process, break_row: Callable[[Tenant], str]
) -> None:
    broken = break_row(acme)
    [another] = expired(globex)
    delete_tenant(doomed)
    dispatch(globex)
    eventually(lambda: queue_length() == 1, "others' jobs are published")
    eventually(lambda: is_gone(doomed), "tenants are deleted")
    eventually(lambda: not Job.objects.filter(id=another).exists(), "others' jobs are ended")
    assert relay.output.count(f"Could not end job {broken}") <= 1


def test_rows_that_cannot_be_ended_do_not_fill_the_view(
    globex: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "LOOK", 10)
    expired(another_tenant("bare"), 15)
    sql("UPDATE public.jobs_job SET expires_at = '2000-01-01'")
    [job_id] = expired(globex)
    rounds = Maintenance()
    for _ in range(3):
        rounds.run()
    assert not Job.objects.filter(id=job_id).exists()
    assert len([record for record in caplog.records if "Could not end job" in record.message]) == 15


def test_what_keeps_failing_is_reported_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = [ValueError("a"), ValueError("a"), KeyError("b"), ValueError("a"), KeyError("b")]
    done: list[None] = []

    def fail(turn: Turn) -> None:
        if errors:
            raise errors.pop(0)

    rounds = Maintenance(sweeps=[fail, lambda turn: done.append(None)])
    for _ in range(6):
        rounds.run()
    reports = [record.message for record in caplog.records if "Maintenance failed in fail" in record.message]
    assert len(reports) == 2
    assert len(done) == 6


def test_a_sweep_whose_statement_fails_stops_no_other(
    acme: Tenant, doomed: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "FIND_EXPIRED", "SELECT nonsense")
    delete_tenant(doomed)
    maintenance.run_maintenance()
    assert is_gone(doomed)


def test_one_tenants_many_expiries_do_not_hold_up_anothers(acme: Tenant, globex: Tenant) -> None:
    ids = expired(acme, 200)
    expired(globex)
    ended: list[str] = []

    class Short(Turn):
        def has_time(self) -> bool:
            ended.append("")
            return len(ended) <= 4

    maintenance.sweep_expired(Short(Maintenance()._troubles, seconds=0))
    assert not Job.objects.filter(tenant=globex).exists()
    assert Job.objects.filter(id__in=ids).count() == 197


def test_a_sweep_that_has_more_to_do_than_time_goes_on_in_the_next_round(acme: Tenant) -> None:
    expired(acme, 5)
    rounds = Maintenance(budget=0)
    assert rounds.run() < Maintenance().run()
    assert not Job.objects.exists()


# Deletion


def test_a_deletion_is_batched(doomed: Tenant) -> None:
    dispatch(doomed, BATCH)
    dispatch(doomed, BATCH, countdown=3600)
    dispatch(doomed, BATCH)
    sql(f"UPDATE public.jobs_job SET token = '{NO_TOKEN}', {OVER} WHERE mod(seq, 2) = 0")  # their workers vanished
    delete_tenant(doomed)
    with counted_statements() as counts:
        maintenance.run_maintenance()
    assert is_gone(doomed)
    assert not Job.objects.exists()
    assert max(counts) <= BATCH


def foreign_key(doomed: Tenant) -> None:
    sql("INSERT INTO public.references_of_ours VALUES (%s)", doomed.id)


def deferred_foreign_key(doomed: Tenant) -> None:
    sql(
        "ALTER TABLE public.references_of_ours ALTER CONSTRAINT references_of_ours_tenant_id_fkey"
        " DEFERRABLE INITIALLY DEFERRED"
    )
    foreign_key(doomed)


def trigger(doomed: Tenant) -> None:
    sql(
        "CREATE FUNCTION public.references_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.slug = 'doomed' THEN RAISE 'never'; END IF; RETURN OLD; END $$"
    )
    sql(
        "CREATE TRIGGER references_refuse BEFORE DELETE ON public.tenants_tenant"
        " FOR EACH ROW EXECUTE FUNCTION public.references_refuse()"
    )


HINDRANCES = (foreign_key, deferred_foreign_key, trigger)


@pytest.fixture
def hindered(doomed: Tenant, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A tenant whose row can't be deleted."""
    sql("CREATE TABLE public.references_of_ours (tenant_id uuid REFERENCES public.tenants_tenant)")
    request.param(doomed)
    yield doomed
    sql("DROP TABLE public.references_of_ours")
    sql("DROP FUNCTION IF EXISTS public.references_refuse CASCADE")


@pytest.mark.parametrize("hindered", HINDRANCES, indirect=True)
def test_a_tenant_that_cannot_be_deleted_is_reported_once_and_stops_nothing(
    globex: Tenant, hindered: Tenant, relay: Process
) -> None:
    delete_tenant(hindered)
    eventually(lambda: "delete_batch failed for doomed" in relay.output, "a report")
    other = another_tenant("other")
    dispatch(other)
    delete_tenant(other)
    dispatch(globex)
    eventually(lambda: is_gone(other), "the other one is deleted")
    eventually(lambda: Job.objects.filter(tenant=globex, sends__gte=1), "its job is published")
    assert not is_gone(hindered)
    assert sql("SELECT to_regclass('doomed_1.kept') IS NOT NULL") == [(True,)]
    assert relay.output.count("delete_batch failed for doomed") == 1


def test_deletions_take_turns(doomed: Tenant) -> None:
    other = another_tenant("other")
    for tenant in (doomed, other):
        dispatch(tenant, 3 * BATCH)
        delete_tenant(tenant)
    looks = iter([True] * 2 + [False] * 9)

    class Short(Turn):
        def has_time(self) -> bool:
            return next(looks)

    maintenance.delete_tenants(Short(Maintenance()._troubles, seconds=0))
    assert [Job.objects.filter(tenant=tenant).count() for tenant in (doomed, other)] == [2 * BATCH, 2 * BATCH]


def test_two_relays_share_a_deletion(doomed: Tenant, start_relay: Callable[[], Process]) -> None:
    relays = [start_relay(), start_relay()]
    dispatch(doomed, 5 * BATCH)
    delete_tenant(doomed)
    eventually(lambda: is_gone(doomed), "it is deleted")
    assert not Job.objects.exists()
    assert not any("Traceback" in relay.output for relay in relays)


# The process


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    relays: list[Process] = []

    def start(**environ: str) -> Process:
        log = tmp_path / f"relay{len(relays)}.log"
        relays.append(Process("relay", ["python", "manage.py", "relay"], log=log, env=environ).start())
        return relays[-1]

    yield start
    for relay in relays:
        relay.stop()


HANGING = "%DELETE FROM%tenants_tenant%"


def test_a_maintenance_that_hangs_ends_the_process(
    doomed: Tenant, acme: Tenant, start_relay: Callable[..., Process]
) -> None:
    """A statement that ignores its time-outs: a trigger's, which sets them off."""
    hanging = start_relay(**out_of_bounds(RELAY_STALL_SECONDS=2))
    eventually(Heartbeat.objects.exists, "a heartbeat")
    sql(
        "CREATE FUNCTION public.hang() RETURNS trigger LANGUAGE plpgsql SET statement_timeout = 0 AS"
        " $$ BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
    )
    sql("CREATE TRIGGER hang BEFORE DELETE ON public.tenants_tenant FOR EACH ROW EXECUTE FUNCTION public.hang()")
    try:
        delete_tenant(doomed)
        eventually(lambda: not hanging.running, "it ended")
    finally:
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()",
            HANGING,
        )
        sql("DROP FUNCTION public.hang CASCADE")
    assert hanging.returncode == 1
    assert "Timeout" in hanging.output
    assert "delete_batch" in hanging.output


def test_a_stop_ends_both(start_relay: Callable[..., Process], acme: Tenant) -> None:
    relay = start_relay()
    eventually(Heartbeat.objects.exists, "a heartbeat")
    expired(acme, 500)
    relay.signal(signal.SIGTERM)
    eventually(lambda: not relay.running, "it ended")
    assert relay.returncode == 0
    assert "Traceback" not in relay.output


def test_it_goes_on_when_its_sessions_are_lost(acme: Tenant, relay: Process) -> None:
    eventually(Heartbeat.objects.exists, "a heartbeat")
    for _ in range(3):
        end_other_sessions()
        expired(acme)
        eventually(lambda: not Job.objects.exists(), "it is ended")
