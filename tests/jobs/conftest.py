"""Real workers and relays, for tests that see what they do."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import current_app, states

from devstack.processes import Process, wait_until
from tenants.connection import connection
from tenants.models import Domain, Tenant
from tests.jobs import probes
from tests.jobs.durables import sql

DEADLINE = 30
RESULTS = "django_celery_results_taskresult"
TASKS = "tests.jobs.probes,tests.jobs.durables,tests.jobs.owners,tests.jobs.hooked"
WORKER = ["celery", "-A", "config", "worker", "-l", "INFO", "--include", TASKS]


@contextmanager
def worker_and_relay(folder: Path, *arguments: str, **environ: str) -> Iterator[Process]:
    """For all tests of a module: a relay, and the worker, with these arguments; both with this environment."""
    current_app.control.purge()  # what the modules before it left
    log = folder / "worker.log"
    command = [*WORKER, "-n", folder.name, *arguments]
    worker = Process("worker", command, log=log, env=environ, ready=lambda: " ready." in log.read_text())
    relay = Process("relay", ["python", "manage.py", "relay"], log=folder / "relay.log", env=environ)
    with worker, relay:
        yield worker


@pytest.fixture
def start_worker(committed_db: None, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts real workers that know the probes; they end with the test."""
    workers: list[Process] = []

    def start(*arguments: str, **environ: str) -> Process:
        name = f"w{len(workers)}-{tmp_path.name}"
        command = [*WORKER, "-n", name, *(arguments or ("-c", "2"))]
        process = Process(
            name, command, log=tmp_path / f"{name}.log", env=environ, ready=lambda: " ready." in process.output
        )
        workers.append(process.start())
        return process

    yield start
    for worker in workers:
        worker.stop()
    current_app.control.purge()


@pytest.fixture(scope="module")
def module_worker(
    request: pytest.FixtureRequest, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """One worker with one child for all tests of a module, which may name its ENVIRONMENT; they use `one_child`."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    env = getattr(request.module, "ENVIRONMENT", {})
    command = [*WORKER, "-n", log.parent.name, "-c", "1"]
    process = Process("worker", command, log=log, env=env, ready=lambda: " ready." in process.output)
    with process:
        yield process


@pytest.fixture
def one_child(module_worker: Process, committed_db: None) -> Iterator[Process]:
    """A worker that runs one task at a time, in one process, in the order in which they were sent."""
    if not module_worker.running:
        module_worker.start()
    yield module_worker
    current_app.control.purge()


@pytest.fixture
def worker(start_worker: Callable[..., Process]) -> Process:
    return start_worker()


@pytest.fixture
def relay(committed_db: None, tmp_path: Path) -> Iterator[Process]:
    with Process("relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log") as relay:
        yield relay


@pytest.fixture
def doomed(committed_db: None) -> Tenant:
    """A tenant that may be deleted."""
    tenant = Tenant.objects.create(slug="doomed", name="Doomed", schema_name="doomed_1", status="active")
    Domain.objects.create(tenant=tenant, domain="doomed.localhost", is_primary=True)
    sql("CREATE SCHEMA doomed_1 CREATE TABLE kept ()")
    return tenant


@pytest.fixture(autouse=True)
def _no_notes() -> None:
    probes.broker().delete(probes.RAN, probes.GO)


def out_of_bounds(**settings: float) -> dict[str, str]:
    """The environment of a relay with settings that the environment's bounds forbid."""
    return {"DJANGO_SETTINGS_MODULE": "tests.jobs.relay_settings", "RELAY_SETTINGS": json.dumps(settings)}


def eventually(condition: Callable[[], Any], what: str, *, seconds: float = DEADLINE) -> None:
    wait_until(lambda: bool(condition()), seconds=seconds, what=what)


def where_ran(name: str) -> list[str]:
    """The schemas in which bodies of this name ran, by the database's word, which Django's must match."""
    runs = [run for run in probes.ran() if run["name"] == name]
    assert all(run["believed"] == run["schema"] for run in runs), runs
    return [run["schema"] for run in runs]


def results_of(task_id: str) -> dict[str, str]:
    """The state of a task in each schema that has a result of it, of all schemas there are."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'django_celery_results_taskresult'")
        selects = [f"SELECT '{schema}', status, task_id FROM \"{schema}\".{RESULTS}" for (schema,) in cursor.fetchall()]
        cursor.execute(f"SELECT * FROM ({' UNION ALL '.join(selects)}) r (s, state, id) WHERE id = %s", [task_id])
        return {schema: state for schema, state, _ in cursor.fetchall()}


def ended(task_id: str) -> bool:
    return any(state in states.READY_STATES for state in results_of(task_id).values())
