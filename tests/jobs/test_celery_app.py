"""Celery as its Django guide has it: the app, its commands, and what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Task, _state, current_app, shared_task
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_tenants.utils import schema_context

import config
from config.celery import debug_task
from devstack.processes import Process, tool_path
from jobs.celery_hooks.app import TenantCelery
from jobs.task import TenantTask
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import eventually, results_of, where_ran
from tests.jobs.probes import own, probe

# To inspect
ENVIRONMENT = {"WORKER_REMOTE_CONTROL": "1"}


def celery_command(*arguments: str) -> str:
    command = ["celery", "-A", "config", *arguments]
    env = {**os.environ, "PATH": tool_path()}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_project_exports_its_app() -> None:
    assert config.celery_app is current_app._get_current_object()
    assert isinstance(config.celery_app, TenantCelery)
    assert config.celery_app.main == "config"


def test_every_task_is_a_tenant_task() -> None:
    assert all(isinstance(task, TenantTask) for task in current_app.tasks.values())
    assert {"config", "celery", "notifications", "accounts"} <= {name.partition(".")[0] for name in current_app.tasks}
    assert _errors() == []


@pytest.mark.parametrize("name", ["django-db", "django-cache", None])
def test_the_environment_names_one_of_our_result_backends(name: str | None) -> None:
    """Celery reads the same variable, and takes its value for the stock class."""
    env = {key: value for key, value in os.environ.items() if key != "CELERY_RESULT_BACKEND"}
    code = "import config; print(type(config.celery_app.backend).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, **({"CELERY_RESULT_BACKEND": name} if name else {})},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == ("TenantCacheBackend" if name == "django-cache" else "TenantDatabaseBackend")


def test_json_alone() -> None:
    conf = current_app.conf
    assert (conf.task_serializer, conf.result_serializer) == ("json", "json")
    assert (conf.accept_content, conf.result_accept_content) == (["json"], ["json"])


def test_the_debug_task(one_child: Process) -> None:
    assert debug_task.ignore_result
    result = debug_task.delay()
    one_child.wait_for(f"{result.id}] succeeded")
    assert "Request: <Context:" in one_child.output
    assert results_of(result.id) == {}


def test_inspect(one_child: Process, acme: Tenant) -> None:
    """`active` shows whose task it is."""
    with schema_context(acme.schema_name):
        task = probes.reports_progress.delay("one")
    eventually(lambda: where_ran("one"), "it runs")

    [[active]] = json.loads(celery_command("inspect", "active", "--json")).values()
    assert (active["id"], active["tenantry"]["schema"]) == (task.id, acme.schema_name)
    [registered] = json.loads(celery_command("inspect", "registered", "--json")).values()
    assert {probe.name, debug_task.name} <= set(registered)
    [ping] = json.loads(celery_command("inspect", "ping", "--json")).values()
    assert ping == {"ok": "pong"}
    probes.go()
    eventually(lambda: results_of(task.id) == {acme.schema_name: "SUCCESS"}, "it ended")


def test_call(one_child: Process) -> None:
    task_id = celery_command("call", probe.name, "--args", '["called"]').strip()
    eventually(lambda: results_of(task_id) == {"public": "SUCCESS"}, "it ran")
    assert where_ran("called") == ["public"]
    assert celery_command("result", task_id).strip() == "public"


def test_beat(one_child: Process, relay: Process, tmp_path: Path, acme: Tenant, globex: Tenant) -> None:
    """Its schedule is the platform's, and so is what it sends."""
    rows = _rows_of_tenants()
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    entry = PeriodicTask.objects.create(name="test", task=probe.name, args='["beat"]', interval=interval)
    try:
        with Process("beat", ["celery", "-A", "config", "beat", "-l", "INFO"], log=tmp_path / "beat.log"):
            eventually(lambda: where_ran("beat"), "beat's task, which stands in the database alone, ran")
    finally:
        entry.delete()
        interval.delete()
    assert set(where_ran("beat")) == {"public"}
    assert _rows_of_tenants() == rows


def _rows_of_tenants() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname ~ '^(acme|globex)_'"
        )
        tables = [table for (table,) in cursor.fetchall()]
        counts = {}
        for table in tables:
            cursor.execute(f"SELECT count(*) FROM {table}")
            [counts[table]] = cursor.fetchone()
    assert len(counts) > 10
    return counts


@pytest.fixture(params=["shared_task", "app.task", "register_task"])
def foreign(request: pytest.FixtureRequest) -> Iterator[Task[Any, Any]]:
    """A task that would run in no particular tenant."""
    finalizers = set(_state._on_app_finalizers)

    def body() -> None:
        probes.note("foreign")

    class Foreign(Task):  # type: ignore[misc]
        name = "tests.foreign"

        def run(self) -> None:
            body()

    decorate: dict[str, Callable[[], Any]] = {
        "shared_task": lambda: shared_task(base=Task, name="tests.foreign")(body),
        "app.task": lambda: current_app.task(base=Task, name="tests.foreign", shared=False)(body),
        "register_task": lambda: current_app.register_task(Foreign()),
    }
    decorate[request.param]()
    yield current_app.tasks["tests.foreign"]
    del current_app.tasks["tests.foreign"]
    # A shared task is made anew in each app that is finalized from now on.
    _state._on_app_finalizers &= finalizers


def test_a_foreign_task_is_an_error(foreign: Task[Any, Any]) -> None:
    [error] = _errors()
    assert "tests.foreign does not derive from jobs.task.TenantTask" in error.msg
    assert error.hint


@pytest.mark.parametrize(
    "dispatch",
    [
        pytest.param(lambda task: task.delay(), id="delay"),
        pytest.param(lambda task: task.apply_async(countdown=5), id="apply_async"),
        pytest.param(lambda task: task.s().delay(), id="signature"),
        pytest.param(lambda task: (task.si() | probe.si("next")).delay(), id="chain"),
        pytest.param(lambda task: celery.group(task.si(), probe.si("next")).delay(), id="group"),
        pytest.param(lambda task: current_app.send_task(task.name), id="send_task"),
    ],
)
def test_a_foreign_task_is_refused_at_dispatch(foreign: Task[Any, Any], dispatch: Callable[[Any], Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Leave `base` out, or derive it from TenantTask"):
        dispatch(foreign)


def test_a_worker_refuses_to_start_with_a_foreign_task(committed_db: None, tmp_path: Path) -> None:
    (tmp_path / "foreign.py").write_text(
        "import celery\n\n@celery.shared_task(base=celery.Task)\ndef foreign():\n    pass\n"
    )
    command = ["celery", "-A", "config", "worker", "--include", "foreign", "-c", "1", "-Q", "foreign"]
    env = {**os.environ, "PATH": tool_path(), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert "foreign.foreign does not derive from jobs.task.TenantTask" in done.stdout + done.stderr


def test_a_task_class_that_derives_from_ours_is_welcome() -> None:
    assert isinstance(own, TenantTask)
    assert _errors() == []


def _errors() -> list[CheckMessage]:
    return [message for message in run_checks() if message.id == "jobs.E001"]
