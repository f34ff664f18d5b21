"""A task that belongs to no schema, or to none that may work now, is not run; the log and its result say why."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from celery import Celery, current_app, group
from django.conf import settings
from django.db import transaction
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from devstack.processes import Process
from tenants.connection import connection
from tenants.models import Tenant
from tenants.services import register_tenant
from tests.jobs import probes
from tests.jobs.conftest import RESULTS, eventually, results_of, where_ran
from tests.jobs.durables import end_other_sessions, queue_length, sql
from tests.jobs.probes import errback, inline_errback, own, probe


@pytest.fixture
def initech(committed_db: None) -> Tenant:
    """A third tenant, which a test may ruin. Its schema has no more than a table of results."""
    with transaction.atomic():
        tenant = register_tenant(name="Initech", slug="initech")
        Tenant.objects.filter(pk=tenant.pk).update(status=Tenant.Status.ACTIVE)
        sql(f"CREATE SCHEMA {tenant.schema_name}")
        sql(f"CREATE TABLE {tenant.schema_name}.{RESULTS} (LIKE public.{RESULTS} INCLUDING ALL)")
    return tenant


def _drop_schema(tenant: Tenant) -> None:
    sql(f"DROP SCHEMA {tenant.schema_name} CASCADE")


def _become(status: str) -> Callable[[Tenant], None]:
    def become(tenant: Tenant) -> None:
        Tenant.objects.filter(pk=tenant.pk).update(status=status)

    return become


def _delete_row(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).delete()


def _delete(tenant: Tenant) -> None:
    _delete_row(tenant)
    _drop_schema(tenant)


RUINS: dict[str, tuple[Callable[[Tenant], None], str]] = {
    "deleted": (_delete, "unknown"),
    "schema dropped": (_drop_schema, "unknown"),
    "row deleted": (_delete_row, "unknown"),
    **{status: (_become(status), status) for status in ("provisioning", "suspended", "deleting", "failed")},
}


@pytest.fixture
def afterwards(one_child: Process, acme: Tenant) -> Callable[[], None]:
    """Sees that the worker lives on: the next tasks of a tenant and of the platform run, where they belong."""

    def afterwards() -> None:
        probe.delay("platform afterwards")
        with schema_context(acme.schema_name):
            probe.delay("acme afterwards")
        eventually(lambda: where_ran("acme afterwards"), "a later task ran")
        assert where_ran("acme afterwards") == [acme.schema_name]
        assert where_ran("platform afterwards") == ["public"]

    return afterwards


@pytest.mark.parametrize("ruin", RUINS)
def test_the_task_of_a_tenant_that_is_gone_or_not_active(
    one_child: Process, initech: Tenant, afterwards: Callable[[], None], ruin: str
) -> None:
    deed, status = RUINS[ruin]
    deed(initech)
    with schema_context(initech.schema_name):
        task = probe.delay("initech")

    afterwards()
    assert where_ran("initech") == []
    assert f"The tenant of schema {initech.schema_name!r} is {status}: the task was not run." in one_child.output
    assert results_of(task.id) == ({} if "DROP" in _schema_state(initech) else {initech.schema_name: "FAILURE"})
    if results_of(task.id):
        with schema_context(initech.schema_name):
            assert f"is {status}: the task was not run." in TaskResult.objects.get(task_id=task.id).result


def _schema_state(tenant: Tenant) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_namespace WHERE nspname = %s", [tenant.schema_name])
        return "there" if cursor.rowcount else "DROPped"


def test_a_retry_after_the_tenant_was_suspended(
    one_child: Process, initech: Tenant, afterwards: Callable[[], None]
) -> None:
    with schema_context(initech.schema_name):
        task = probes.tries_again.delay("initech", suspend=initech.schema_name)

    eventually(lambda: results_of(task.id) == {initech.schema_name: "FAILURE"}, "the retry failed")
    afterwards()
    assert where_ran("initech") == [initech.schema_name]


@pytest.mark.parametrize("signature", [errback, inline_errback])
def test_errbacks_and_hooks_of_a_suspended_tenant(
    one_child: Process, initech: Tenant, acme: Tenant, afterwards: Callable[[], None], signature: Any
) -> None:
    """Its errbacks don't run either; another tenant's do. A hook of the task class has no other schema than its own."""
    with schema_context(acme.schema_name):
        errback_of_acme = signature.s()
    _become("suspended")(initech)
    with schema_context(initech.schema_name):
        task = own.apply_async(("initech",), link_error=[signature.s(), errback_of_acme])

    afterwards()
    eventually(lambda: results_of(task.id) == {initech.schema_name: "FAILURE"}, "the task failed")
    eventually(lambda: where_ran(signature.__name__.replace("_", " ")) == [acme.schema_name], "acme's errback ran")
    assert where_ran("on_failure") == [initech.schema_name]
    assert where_ran("initech") == []


@pytest.fixture
def bare() -> Celery:
    """An app that knows nothing of tenants, as somebody else's producer."""
    app = Celery("bare", broker=settings.CELERY_BROKER_URL, set_as_current=False)
    app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    return app


@pytest.mark.parametrize(
    "header",
    [
        {"schema": "pg_catalog"},
        {"schema": "information_schema"},
        {"schema": 'x"; drop'},
        {"schema": "x\0"},
        {"schema": "gone_000000000000"},
        {"schema": ""},
        {"schema": None},
        {"schema": 5},
        {"schema": ["public"]},
        {"schema": {"public": 1}},
        {},
        "public",
        ["public"],
        None,
        5,
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["probe", "unknown"])
def test_a_forged_header(
    one_child: Process, bare: Celery, afterwards: Callable[[], None], header: Any, name: str
) -> None:
    task = bare.send_task(f"tests.jobs.probes.{name}", ("forged",), headers={"tenantry": header})

    afterwards()
    assert where_ran("forged") == []
    assert task.id in one_child.output
    assert results_of(task.id) in ({}, {"public": "FAILURE"})


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize("name", ["probe", "unknown"])
def test_no_header(one_child: Process, bare: Celery, afterwards: Callable[[], None], protocol: int, name: str) -> None:
    bare.conf.task_protocol = protocol
    task = bare.send_task(f"tests.jobs.probes.{name}", ("no header",))

    afterwards()
    assert where_ran("no header") == []
    assert results_of(task.id) == {"public": "FAILURE"}
    if name == "probe":
        assert "The message names no tenant" in TaskResult.objects.get(task_id=task.id).result


@pytest.mark.parametrize("headers", [{"entered": True}, {"is_eager": True}, {"called_directly": True}, {"lease": {}}])
def test_headers_cant_pass_the_check(
    one_child: Process, bare: Celery, afterwards: Callable[[], None], headers: dict[str, Any]
) -> None:
    bare.send_task("tests.jobs.probes.probe", ("forged",), headers=headers)
    afterwards()
    assert where_ran("forged") == []


def test_the_look_up_fails(start_worker: Callable[..., Process], acme: Tenant) -> None:
    """Here the tenants' table is locked, and the worker's statements have little time."""
    hasty = f"{os.environ['DATABASE_URL']}?options=-c%20statement_timeout%3D500ms"
    worker = start_worker("-c", "1", "-Q", "hasty", DATABASE_URL=hasty)
    with schema_context(acme.schema_name):
        with transaction.atomic():
            sql("LOCK TABLE public.tenants_tenant IN ACCESS EXCLUSIVE MODE")
            task = probe.apply_async(("during",), queue="hasty")
            worker.wait_for(f"[{task.id}] raised unexpected: OperationalError")
        probe.apply_async(("afterwards",), queue="hasty")
        eventually(lambda: where_ran("afterwards"), "a later task ran")

    assert where_ran("during") == []
    assert where_ran("afterwards") == [acme.schema_name]
    assert results_of(task.id) == {acme.schema_name: "FAILURE"}
    with schema_context(acme.schema_name):
        assert "canceling statement due to statement timeout" in TaskResult.objects.get(task_id=task.id).result


def test_the_database_refuses_connections(one_child: Process, acme: Tenant, afterwards: Callable[[], None]) -> None:
    """Whatever comes meanwhile, for a child or for the parent itself, the worker outlives it."""
    afterwards()
    with schema_context(acme.schema_name), _no_connections():
        probe.delay("during")
        eventually(lambda: queue_length("celery") == 0, "the worker has the first")
        expired = probe.apply_async(("expired",), expires=-1)
        unknown = current_app.send_task("tests.jobs.probes.unknown")
        one_child.wait_for(f"{expired.id} was expired")
        one_child.wait_for(unknown.id)
        probe.delay("last")
        eventually(lambda: queue_length("celery") == 0, "the worker has the last")

    probes.broker().delete(probes.RAN)
    afterwards()
    assert where_ran("during") == []


def test_every_backend_is_terminated(one_child: Process, acme: Tenant, afterwards: Callable[[], None]) -> None:
    """That is retry_on_broken_connection: the look-up is repeated on a new connection."""
    afterwards()
    end_other_sessions()
    with schema_context(acme.schema_name):
        task = probe.delay("at once")

    eventually(lambda: results_of(task.id) == {acme.schema_name: "SUCCESS"}, "it ran")
    assert where_ran("at once") == [acme.schema_name]


@contextmanager
def _no_connections() -> Iterator[None]:
    name = connection.settings_dict["NAME"]
    other = os.environ["DATABASE_URL"].rpartition("/")[0] + "/postgres"
    with psycopg.connect(other, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            end_other_sessions()
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def test_parts_of_a_canvas_fail_one_by_one(
    one_child: Process, initech: Tenant, acme: Tenant, afterwards: Callable[[], None]
) -> None:
    with schema_context(initech.schema_name):
        of_initech = probe.si("initech")
    with schema_context(acme.schema_name):
        of_acme = probe.si("acme")
    _become("suspended")(initech)

    group(of_acme, of_initech).delay()
    (of_initech | of_acme.clone()).delay()

    afterwards()
    assert where_ran("acme") == [acme.schema_name]
    assert where_ran("initech") == []
