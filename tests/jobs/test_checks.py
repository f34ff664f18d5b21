from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from django.core import mail
from pytest_django import Settings

from devstack.processes import Process, wait_until
from jobs.celery_hooks.app import TenantCelery
from jobs.checks import check_app, check_project

GOOD = {"task_time_limit": 30, "CELERY_DB_REUSE_MAX": 1000, "beat_scheduler": "jobs.beat:TenantScheduler"}
OURS = "jobs.celery_hooks.backends:TenantDatabaseBackend"


def app_with(cls: type[Celery] = TenantCelery, task_cls: Any = None, backend: str = OURS, **conf: Any) -> Celery:
    app = cls("other", task_cls=task_cls, set_as_current=False)
    app.backend_cls = backend
    app.conf.update({**GOOD, **conf})
    return app


def found(messages: Any) -> set[str]:
    messages = list(messages)
    assert all(message.hint for message in messages)
    return {message.id for message in messages}


def body() -> None: ...


class Foreign(Task):  # type: ignore[misc]  # Celery has no types
    name = "foreign"


def test_the_project_as_it_is_passes() -> None:
    assert check_project() == []


def test_a_good_app_passes() -> None:
    assert found(check_app(app_with())) == set()


def test_e001_a_task_that_knows_no_tenants() -> None:
    app = app_with()
    app.register_task(Foreign())
    [error] = check_app(app)
    assert (error.id, "Task foreign" in error.msg) == ("jobs.E001", True)


def test_e002_an_app_that_knows_no_tenants() -> None:
    assert found(check_app(app_with(Celery))) == {"jobs.E002"}


def test_e003_eager_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_with(task_always_eager=True)
    assert found(check_app(app)) == set()  # this is a test
    monkeypatch.delattr(mail, "outbox")
    assert found(check_app(app)) == {"jobs.E003"}


def test_e004_atomic_requests(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
    assert found(check_project()) == {"jobs.E004"}


@pytest.mark.parametrize(
    "backend", ["django_celery_results.backends:DatabaseBackend", "cache+memory://", "redis://", "disabled"]
)
def test_e005_a_result_backend_that_does_not_follow_tenants(backend: str) -> None:
    assert found(check_app(app_with(backend=backend))) == {"jobs.E005"}


def test_e005_the_other_backend_does() -> None:
    app = app_with(backend="jobs.celery_hooks.backends:TenantCacheBackend", cache_backend="default")
    assert found(check_app(app)) == set()


def test_e006_a_default_task_class_that_knows_no_tenants() -> None:
    # Celery's own tasks, which it makes from that class, are foreign then.
    assert found(check_app(app_with(task_cls="celery.contrib.django.task:DjangoTask"))) >= {"jobs.E006"}


@pytest.mark.parametrize("name", ["SHARED_APPS", "TENANT_APPS"])
def test_e007_results_that_are_not_everywhere(settings: Settings, name: str) -> None:
    apps = [app for app in getattr(settings, name) if app != "django_celery_results"]
    setattr(settings, name, apps)
    [error] = check_project()
    assert (error.id, name in error.msg) == ("jobs.E007", True)


@pytest.mark.parametrize("limit", [None, 0])
def test_e008_tasks_without_time_limits(limit: int | None) -> None:
    app = app_with(task_time_limit=limit)
    app.task(name="limited", shared=False, time_limit=5)(body)
    app.task(name="limitless", shared=False)(body)
    [error] = check_app(app)
    assert error.id == "jobs.E008"
    assert "limitless" in error.msg
    assert " limited" not in error.msg


@pytest.mark.parametrize("option", ["time_limit", "soft_time_limit"])
@pytest.mark.parametrize("limit", ["5", float("nan"), float("inf"), -1, True, 1e12])
def test_e010_time_limits_that_no_lease_can_follow(option: str, limit: Any) -> None:
    app = app_with(task_time_limit=30)
    app.task(name="odd", shared=False, **{option: limit})(body)
    [error] = check_app(app)
    assert (error.id, "The task odd " in error.msg) == ("jobs.E011", True)


def test_e013_a_soft_limit_that_comes_after_the_hard_one() -> None:
    assert found(check_app(app_with(task_soft_time_limit=31))) == {"jobs.E013"}
    assert found(check_app(app_with(task_soft_time_limit=30))) == set()


@pytest.mark.parametrize("reuse", [None, 0])
def test_w001_connections_that_are_not_reused(reuse: int | None) -> None:
    assert found(check_app(app_with(CELERY_DB_REUSE_MAX=reuse))) == {"jobs.W001"}


def test_w001_a_setting_that_does_not_reach_celery() -> None:
    # As CELERY_DB_REUSE_MAX of Django's settings would be named, if it were one of Celery's own.
    app = app_with(db_reuse_max=1000, CELERY_DB_REUSE_MAX=None)
    assert found(check_app(app)) == {"jobs.W001"}


@pytest.mark.parametrize(
    "conf",
    [
        {"accept_content": ["json", "pickle"]},
        {"accept_content": ["application/x-python-serialize"]},
        {"result_accept_content": ["pickle"]},
        {"task_serializer": "pickle"},
        {"result_serializer": "pickle"},
    ],
    ids=str,
)
def test_e012_pickle_in_messages_or_results(conf: dict[str, Any]) -> None:
    assert found(check_app(app_with(**conf))) == {"jobs.E012"}


@pytest.mark.parametrize(
    "backend", ["redis.RedisCache", "filebased.FileBasedCache", "db.DatabaseCache", "memcached.PyMemcacheCache"]
)
def test_e022_a_cache_that_unpickles_what_others_write(settings: Settings, backend: str) -> None:
    name = f"django.core.cache.backends.{backend}"
    settings.CACHES = {**settings.CACHES, "more": {"BACKEND": name, "LOCATION": "redis://localhost"}}
    assert found(check_project()) == {"jobs.E022"}


# A worker


@pytest.fixture
def worker_with(committed_db: None, tmp_path: Path) -> Callable[..., Process]:
    def worker_with(**env: str) -> Process:
        command = [
            "celery",
            "-A",
            "config",
            "worker",
            "-l",
            "INFO",
            "-P",
            "solo",
            "-n",
            tmp_path.name,
            "-Q",
            tmp_path.name,
        ]
        return Process("worker", command, log=tmp_path / "worker.log", env=env)

    return worker_with


@pytest.mark.parametrize(
    ("env", "id"), [({"JOB_SOFT_TIME_LIMIT": "31"}, "jobs.E013"), ({"CARD_GATEWAY_TIMEOUT": "25"}, "billing.E003")]
)
def test_a_worker_refuses_to_start_on_an_error(
    worker_with: Callable[..., Process], env: dict[str, str], id: str
) -> None:
    worker = worker_with(**env)
    with worker:
        worker.wait_for(id)
        wait_until(lambda: not worker.running, seconds=30, what="the end")
        assert worker.returncode == 1
        assert " ready." not in worker.output


def test_a_worker_starts_on_a_warning(worker_with: Callable[..., Process]) -> None:
    with worker_with(EMAIL_URL="consolemail://") as worker:
        worker.wait_for(" ready.")


@pytest.mark.parametrize(
    "scheduler", ["celery.beat:PersistentScheduler", "django_celery_beat.schedulers:DatabaseScheduler", "no.such:Thing"]
)
def test_e010_a_scheduler_whose_runs_are_no_jobs(scheduler: str) -> None:
    assert found(check_app(app_with(beat_scheduler=scheduler))) == {"jobs.E010"}
