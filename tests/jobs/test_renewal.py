"""Short leases that a worker renews: a long body keeps its job, and a lost worker loses it soon."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django_tenants.utils import schema_context

from devstack.processes import Process
from tenants.connection import connection
from tenants.models import Tenant
from tests.chaos.proxy import Mode, Proxy
from tests.jobs import probes
from tests.jobs.conftest import ended, eventually, results_of
from tests.jobs.durables import dies_once, groups, lingers, locks_and_waits, result_of, sql
from tests.tenants.observer import observing

LEASE = 3
SHORT = {"JOB_LEASE": str(LEASE)}


@pytest.fixture
def lease() -> int:
    """Seconds, for the relay. Its workers' must be the same."""
    return LEASE


@pytest.fixture
def database() -> Iterator[Proxy]:
    """What is between the relay and PostgreSQL."""
    with Proxy(int(connection.settings_dict["PORT"] or 5432)) as proxy:
        yield proxy


@pytest.fixture
def environment(database: Proxy, lease: int) -> dict[str, str]:
    """The relay's."""
    user, password, name = (connection.settings_dict[part] for part in ("USER", "PASSWORD", "NAME"))
    url = f"postgres://{user}:{password}@127.0.0.1:{database.port}/{name}"
    return {"DATABASE_URL": url, "JOB_LEASE": str(lease)}


@pytest.fixture(autouse=True)
def _relay(committed_db: None, tmp_path: Path, environment: dict[str, str]) -> Iterator[None]:
    with Process("relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log", env=environment):
        yield


def dispatch(tenant: Tenant, task: Any, *args: Any, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        return str(task.apply_async_on_commit(args, **options))


def begun(name: str, times: int = 1) -> bool:
    return len([note for note in probes.ran() if note["name"] == name]) == times


def test_a_body_that_takes_longer_than_a_lease_runs_once(start_worker: Callable[..., Process], acme: Tenant) -> None:
    start_worker(**SHORT)
    start_worker(**SHORT)
    job_id = dispatch(acme, lingers, "long", 3 * LEASE)
    eventually(lambda: ended(job_id), "it ended")
    assert begun("long")
    assert '"attempts": 1' in (result_of(acme.schema_name, job_id).meta or "")


@pytest.mark.parametrize("time_limit", [30, 3600])
def test_a_killed_workers_job_runs_again_soon_whatever_its_limit(
    start_worker: Callable[..., Process], acme: Tenant, time_limit: int
) -> None:
    first = start_worker(**SHORT)
    job_id = dispatch(acme, locks_and_waits, "killed", time_limit=time_limit)
    eventually(lambda: begun("killed"), "it began")
    first.kill()
    start_worker(**SHORT)
    probes.go()
    eventually(lambda: ended(job_id), "it ended", seconds=20)
    assert groups(acme.schema_name) == ["killed"]


def test_a_second_run_gets_the_lock_that_a_lost_one_holds(start_worker: Callable[..., Process], acme: Tenant) -> None:
    """PostgreSQL keeps the locks of a host that vanished: a worker that stands still looks the same to it."""
    first = start_worker(**SHORT)
    job_id = dispatch(acme, locks_and_waits, "lost", time_limit=3600)
    eventually(lambda: begun("lost"), "it began")
    os.killpg(first.pid, signal.SIGSTOP)
    start_worker(**SHORT)
    eventually(lambda: sql("SELECT lost FROM public.jobs_job WHERE lost > 0"), "it was taken over", seconds=20)
    probes.go()
    eventually(lambda: ended(job_id), "it ended", seconds=20)
    os.killpg(first.pid, signal.SIGCONT)
    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert groups(acme.schema_name) == ["lost"]


def test_a_lease_is_not_renewed_beyond_the_jobs_limit(start_worker: Callable[..., Process], acme: Tenant) -> None:
    start_worker(**SHORT, JOB_LEASE_MARGIN="1")
    dispatch(acme, lingers, "limited", 60, time_limit=3 * LEASE, soft_time_limit=3 * LEASE - 0.1)
    eventually(lambda: begun("limited"), "it began")
    assert sql("SELECT lease_until < deadline FROM public.jobs_job") == [(True,)]
    eventually(
        lambda: sql("SELECT id FROM public.jobs_job WHERE lease_until = deadline"), "it was renewed as far as that goes"
    )


# After an outage, who may take over waits for a renewal interval, and who renews for half a second: the machine that
# runs this may be slow, so the interval is two seconds.
@pytest.mark.parametrize("lease", [6])
def test_an_outage_costs_a_running_call_no_second_one(
    start_worker: Callable[..., Process], acme: Tenant, database: Proxy, environment: dict[str, str], lease: int
) -> None:
    """Longer than the lease, while the body is outside of transactions."""
    start_worker(**environment)
    start_worker(**environment)
    job_id = dispatch(acme, lingers, "outage", 3 * lease)
    eventually(lambda: begun("outage"), "it began")
    database.turn(Mode.CUT)
    eventually(lambda: sql("SELECT FROM public.jobs_job WHERE lease_until < clock_timestamp()"), "its lease ran out")
    database.turn(Mode.PASS)
    eventually(lambda: ended(job_id), "it ended")
    assert begun("outage")
    assert '"attempts": 1' in (result_of(acme.schema_name, job_id).meta or "")


def test_a_worker_that_stops_waits_for_its_tasks_and_no_longer(
    start_worker: Callable[..., Process], acme: Tenant
) -> None:
    worker = start_worker(REMAP_SIGTERM="SIGQUIT", WORKER_SHUTDOWN_SECONDS="600")
    job_id = dispatch(acme, lingers, "deploy", 2)
    eventually(lambda: begun("deploy"), "it began")
    worker.signal(signal.SIGTERM)
    eventually(lambda: not worker.running, "the worker ended")
    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert '"attempts": 1' in (result_of(acme.schema_name, job_id).meta or "")


def test_a_repeated_sigterm_does_not_hurry_it(start_worker: Callable[..., Process], acme: Tenant) -> None:
    """As from a platform that sends it to each process, beside a supervisor that passes it on."""
    worker = start_worker(REMAP_SIGTERM="SIGQUIT", WORKER_SHUTDOWN_SECONDS="600")
    job_id = dispatch(acme, lingers, "deploy", 2)
    eventually(lambda: begun("deploy"), "it began")
    enough = time.monotonic() + 0.5
    while time.monotonic() < enough:
        worker.signal(signal.SIGTERM)
    eventually(lambda: not worker.running, "the worker ended")
    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert '"attempts": 1' in (result_of(acme.schema_name, job_id).meta or "")


def test_a_worker_that_stops_while_a_child_dies_does_not_wait_for_it(
    start_worker: Callable[..., Process], acme: Tenant
) -> None:
    worker = start_worker(REMAP_SIGTERM="SIGQUIT", WORKER_SHUTDOWN_SECONDS="600")
    dispatch(acme, dies_once, "dies", "kill -9")
    eventually(lambda: begun("dies", 1), "it began")
    worker.signal(signal.SIGTERM)
    eventually(lambda: not worker.running, "the worker ended")


def test_a_worker_that_stops_while_it_hands_back_a_dead_childs_job_does_not_wait_for_it(
    start_worker: Callable[..., Process], acme: Tenant
) -> None:
    worker = start_worker(REMAP_SIGTERM="SIGQUIT", WORKER_SHUTDOWN_SECONDS="600")
    job_id = dispatch(acme, lingers, "dies", 600)
    eventually(lambda: begun("dies"), "it began")
    with observing() as observer, transaction.atomic():
        sql("SELECT FROM public.jobs_job FOR UPDATE")
        os.kill(probes.ran()[0]["pid"], signal.SIGKILL)
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%kills = kills +%'"
        eventually(lambda: observer.execute(waits), "it hands the job back")
        worker.signal(signal.SIGTERM)
    eventually(lambda: not worker.running, "the worker ended")
    assert sql("SELECT state FROM public.jobs_job WHERE id = %s", job_id) == [("waiting",)]
