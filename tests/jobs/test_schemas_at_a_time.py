"""Making schemas leaves the workers to other tenants' jobs: at most SCHEMAS_AT_A_TIME are made at once."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import transaction
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context, schema_exists
from pytest_django import Settings

from accounts.services import sign_up
from devstack.processes import Process
from jobs.models import Job
from tenants import spares
from tenants.connection import connection, fetch_one
from tenants.models import Spare, Tenant
from tenants.schemas import MIGRATION_LOCK
from tenants.services import create_schema, register_tenant
from tenants.slots import SLOTS_LOCK, NoSlot
from tenants.tasks import fill_spares
from tests.jobs.conftest import eventually
from tests.jobs.durables import groups, mark
from tests.people import PASSWORD, at_once
from tests.poolers.pgbouncer import pgbouncer

pytestmark = pytest.mark.usefixtures("committed_db")
RunJobs = Callable[..., int]

SIGN_UPS = 12
#: Seconds for all of them, on a machine that does much besides
LONG = 170


def signed_up(slug: str = "initech") -> Tenant:
    owner = {"email": f"ira@{slug}.example", "full_name": "Ira Ink", "password": PASSWORD}
    return sign_up(name="Initech", slug=slug, owner=owner)


def registered(slug: str) -> Tenant:
    with transaction.atomic():
        return register_tenant(name="Initech", slug=slug)


def statuses() -> set[str]:
    return set(Tenant.objects.exclude(slug__in=("acme", "globex")).values_list("status", flat=True))


def sessions_that_hold(lock: int) -> int:
    """How many sessions of this database hold an advisory lock whose first half this is."""
    [number] = fetch_one(
        """
        SELECT count(DISTINCT pid) FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = %s::bigint::oid
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        [lock],
    )
    return int(number)


def makers() -> int:
    """How many schemas are being made."""
    return sessions_that_hold(MIGRATION_LOCK)


@contextmanager
def held(slots: int = 1) -> Iterator[psycopg.Connection]:
    """Somebody else's session, which holds so many slots."""
    options = {**connection.get_connection_params(), "cursor_factory": None, "context": None, "autocommit": True}
    with psycopg.connect(**options) as other:
        other.execute("SELECT pg_advisory_lock(%s, slot) FROM generate_series(0, %s - 1) slot", [SLOTS_LOCK, slots])
        yield other
    await_free_slots()


def await_free_slots() -> None:
    """A session that has ended may hold its locks for another moment."""
    eventually(lambda: not sessions_that_hold(SLOTS_LOCK), "the slots are free")


# With real workers


@pytest.mark.usefixtures("relay")
def test_sign_ups_without_a_spare_leave_a_child_to_others(start_worker: Callable[..., Process], acme: Tenant) -> None:
    for number in range(SIGN_UPS):
        signed_up(f"initech{number}")
    start_worker("-c", "2")
    eventually(makers, "a schema is being made")
    with schema_context(acme.schema_name):
        mark.delay_on_commit("order")
    seen: set[int] = set()

    def order_is_done() -> bool:
        seen.add(makers())
        return groups(acme.schema_name) == ["order"]

    def all_are_active() -> bool:
        seen.add(makers())
        return statuses() == {"active"}

    eventually(order_is_done, "the other tenant's job")
    assert "provisioning" in statuses()
    eventually(all_are_active, "the sign-ups", seconds=LONG)
    assert max(seen) == 1
    assert not Job.objects.filter(state="dead").exists()


@pytest.mark.needs("pgbouncer")
@pytest.mark.usefixtures("relay")
def test_behind_a_pooler_one_is_made_at_a_time(start_worker: Callable[..., Process]) -> None:
    for number in range(4):
        signed_up(f"initech{number}")
    seen: set[int] = set()

    def all_are_active() -> bool:
        seen.add(makers())
        return statuses() == {"active"}

    with pgbouncer("transaction") as pooler:
        worker = start_worker("-c", "2", DATABASE_URL=pooler.url, DATABASE_DIRECT_URL=os.environ["DATABASE_URL"])
        eventually(all_are_active, "the sign-ups", seconds=LONG)
        worker.stop()
    assert max(seen) == 1


@pytest.mark.usefixtures("relay")
def test_those_who_fill_spares_at_once_make_as_many_as_are_wanted(
    start_worker: Callable[..., Process], settings: Settings
) -> None:
    settings.SPARE_SCHEMAS = 2
    with transaction.atomic():
        fill_spares.map_on_commit([()] * 6)
    start_worker("-c", "2", SPARE_SCHEMAS="2")
    eventually(lambda: not Job.objects.exists(), "all have ended", seconds=LONG)
    assert [spare.ready for spare in Spare.objects.all()] == [True, True]
    results = TaskResult.objects.filter(task_name=fill_spares.name).values_list("result", flat=True)
    assert set(results) == {"false", "true"}


@pytest.mark.usefixtures("relay")
def test_a_killed_maker_frees_its_slot(start_worker: Callable[..., Process], settings: Settings) -> None:
    settings.SPARE_SCHEMAS = 1
    signed_up("initech")
    signed_up("hooli")
    environment = {"SPARE_SCHEMAS": "1", "JOB_LEASE": "3"}
    worker = start_worker("-c", "2", **environment)
    eventually(makers, "a schema is being made")
    worker.kill()
    start_worker("-c", "2", **environment)
    eventually(lambda: not Job.objects.exclude(task__startswith="notifications").exists(), "all ended", seconds=LONG)
    assert statuses() == {"active"}
    assert Spare.objects.get().ready


# Who finds no slot


def test_a_sign_up_that_finds_no_slot_waits_as_long_as_it_takes(run_jobs: RunJobs, settings: Settings) -> None:
    settings.JOB_MAX_SNOOZES = 1
    tenant = signed_up()
    with held():
        assert run_jobs() == 1
        for _ in range(3):
            run_jobs(ahead=True, limit=1)
        assert not schema_exists(tenant.schema_name)
        job = Job.objects.get()
        assert (job.state, job.snoozes, job.retries, job.kills, job.transients) == ("waiting", 4, 0, 0, 0)
    run_jobs(ahead=True)
    assert statuses() == {"active"}
    assert not Job.objects.exists()


def test_a_sign_up_that_finds_a_spare_needs_no_slot(run_jobs: RunJobs, settings: Settings) -> None:
    settings.SPARE_SCHEMAS = 1
    assert spares.fill_spares() == 1
    await_free_slots()
    with held():
        signed_up()
        run_jobs()
        assert statuses() == {"active"}
        assert not Spare.objects.exists()
    run_jobs(ahead=True)
    assert Spare.objects.get().ready


def test_the_longer_the_line_before_it_the_longer_a_sign_up_waits(run_jobs: RunJobs) -> None:
    tenants = [signed_up(slug) for slug in ("first", "second", "third")]
    with held():
        assert run_jobs() == len(tenants)
        due = {job.args: job.due_at for job in Job.objects.all()}
    first, second, third = (due[f'["{tenant.pk}"]'] for tenant in tenants)
    assert first < second < third


def test_a_spare_whose_maker_dies_is_made_by_who_came_later(run_jobs: RunJobs, settings: Settings) -> None:
    settings.SPARE_SCHEMAS = 1
    with held() as maker:
        spare = Spare.objects.create()
        maker.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [MIGRATION_LOCK, spare.schema_name])
        with transaction.atomic():
            fill_spares.delay_on_commit()
        assert run_jobs() == 1
        job = Job.objects.get()
        assert (job.state, job.snoozes) == ("waiting", 1)
        assert Spare.objects.get() == spare
    run_jobs(ahead=True)
    [made] = Spare.objects.all()
    assert (made != spare, made.ready) == (True, True)
    assert not Job.objects.exists()


def test_with_two_slots_one_that_others_make_is_not_made_again(run_jobs: RunJobs, settings: Settings) -> None:
    settings.SPARE_SCHEMAS = 1
    settings.SCHEMAS_AT_A_TIME = 2
    spares.fill_spares()
    await_free_slots()
    with held() as maker:
        spare = Spare.objects.get()
        Spare.objects.update(ready=False)
        maker.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [MIGRATION_LOCK, spare.schema_name])
        with transaction.atomic():
            fill_spares.delay_on_commit()
        run_jobs()
        assert Job.objects.get().snoozes == 1
        Spare.objects.update(ready=True)
    run_jobs(ahead=True)
    assert Spare.objects.get() == spare
    assert not Job.objects.exists()


def test_a_job_makes_one_spare_and_dispatches_the_next(run_jobs: RunJobs, settings: Settings) -> None:
    settings.SPARE_SCHEMAS = 2
    with transaction.atomic():
        first = fill_spares.delay_on_commit()
    assert run_jobs(limit=1) == 1
    assert Spare.objects.filter(ready=True).count() == 1
    assert str(Job.objects.get().pk) != first
    await_free_slots()
    run_jobs(ahead=True)
    assert Spare.objects.filter(ready=True).count() == 2
    assert not Job.objects.exists()


# The slots


def test_so_many_are_made_at_once_as_the_setting_says(settings: Settings) -> None:
    settings.SCHEMAS_AT_A_TIME = 2
    tenant = registered("initech")
    with held(slots=2):
        with pytest.raises(NoSlot):
            create_schema(tenant, wait=False)
        assert not schema_exists(tenant.schema_name)
    with held(slots=1):
        create_schema(tenant, wait=False)
    assert schema_exists(tenant.schema_name)


def test_who_waits_gets_a_slot_in_the_end() -> None:
    tenants = [registered("initech"), registered("hooli")]
    at_once(*[lambda tenant=tenant: create_schema(tenant) for tenant in tenants])
    assert all(schema_exists(tenant.schema_name) for tenant in tenants)


def test_an_error_frees_the_slot() -> None:
    tenant = registered("initech")
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA "{tenant.schema_name}"')
        cursor.execute(f'CREATE TABLE "{tenant.schema_name}".accounts_user ()')
    with pytest.raises(Exception, match="accounts_user"):
        create_schema(tenant, wait=False)
    await_free_slots()


def test_an_error_before_the_schema_is_made_frees_the_slot(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SPARE_SCHEMAS = 1
    monkeypatch.setattr(Spare.objects, "create", lambda: pytest.fail("no row"))
    with pytest.raises(pytest.fail.Exception):
        spares.make_spare()
    await_free_slots()
