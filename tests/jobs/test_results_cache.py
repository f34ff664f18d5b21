"""`CELERY_RESULT_BACKEND=django-cache`: results of plain tasks in Django's cache, each under the schema of its task."""

from collections.abc import Callable, Iterator

import pytest
from celery import chord, current_app
from celery.backends.base import Backend
from celery.result import AsyncResult
from django.conf import settings
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.celery_hooks.backends import TenantCacheBackend
from tenants.models import Tenant
from tests.jobs.conftest import WORKER, eventually, results_of, where_ran
from tests.jobs.probes import broker, errback, fails, probe, sleeps

Expect = Callable[[AsyncResult[object], str, str], None]


@pytest.fixture(scope="module")
def cache_worker(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("cache") / "worker.log"
    command = [*WORKER, "-n", log.parent.name, "-c", "1"]
    env = {"CELERY_RESULT_BACKEND": "django-cache"}
    with Process("worker", command, log=log, env=env, ready=lambda: " ready." in log.read_text()) as worker:
        yield worker


@pytest.fixture
def backend(cache_worker: Process, committed_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """This process's backend, too."""
    monkeypatch.setattr(current_app._local, "backend", TenantCacheBackend(app=current_app), raising=False)
    yield current_app.backend
    current_app.control.purge()
    _empty_cache()


def _empty_cache() -> None:
    """`cache.clear()` would empty the whole server, which others use."""
    for key in broker().scan_iter(f"{settings.CACHES['default']['KEY_PREFIX']}*"):
        broker().delete(key)


@pytest.fixture
def expect(backend: Backend, acme: Tenant, globex: Tenant) -> Expect:
    """That a task has this state in its tenant, and none in another schema, nor in the database."""

    def expect(result: AsyncResult[object], home: str, state: str) -> None:
        with schema_context(home):
            eventually(lambda: AsyncResult(result.id).state == state, f"{state} in {home}")
        for schema in {acme.schema_name, globex.schema_name, "public"} - {home}:
            with schema_context(schema):
                assert AsyncResult(result.id).state == "PENDING"
        assert results_of(result.id) == {}

    return expect


def test_results_stand_at_home_alone(expect: Expect, acme: Tenant) -> None:
    for home in (acme.schema_name, "public"):
        with schema_context(home):
            success = probe.delay("one")
            failure = fails.delay("two")
            hard_limit = sleeps.apply_async(("three", 60, True), soft_time_limit=0.2, time_limit=0.4)
            expired = probe.apply_async(("four",), expires=-1)
            unknown = current_app.send_task("tests.jobs.probes.unknown")
        expect(success, home, "SUCCESS")
        expect(failure, home, "FAILURE")
        expect(hard_limit, home, "FAILURE")
        expect(expired, home, "REVOKED")
        expect(unknown, home, "FAILURE")


def test_each_key_carries_its_schema(backend: TenantCacheBackend, acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        keys = [backend.get_key_for_task("id"), backend.get_key_for_group("id"), backend.get_key_for_chord("id")]
    assert all(key.startswith(acme.schema_name.encode() + b":") for key in keys)


def test_a_chord(expect: Expect, acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        body = chord([probe.s("1"), probe.s("2")])(probe.si("body"))
        bad_body = chord([probe.s("3"), fails.s("4")])(probe.si("bad body").on_error(errback.s()))

    expect(body, acme.schema_name, "SUCCESS")
    expect(bad_body, acme.schema_name, "FAILURE")
    eventually(lambda: where_ran("errback"), "the errback ran")
    assert where_ran("body") == where_ran("errback") == [acme.schema_name]
    assert where_ran("bad body") == []
