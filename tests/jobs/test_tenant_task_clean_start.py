"""Whatever a task does and however it ends, the next one in its process, thread or greenlet starts clean."""

from collections.abc import Callable

import pytest
from django_tenants.utils import schema_context

from devstack.processes import Process
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import eventually, results_of, where_ran
from tests.jobs.probes import ENDINGS, MESSES, ends, lingers, probe

# What needs a process that may be killed or interrupted by a signal.
PREFORK_ONLY = {"soft limit", "kill -9"}
# With how much at a time. A gevent worker looks for more work every two seconds only, once it has all it may have.
POOLS = {"threads": "1", "gevent": "8", "solo": "1"}


@pytest.mark.parametrize("mess", MESSES)
@pytest.mark.parametrize("ending", ["success", "exception"])
def test_after_each_mess(one_child: Process, acme: Tenant, globex: Tenant, mess: str, ending: str) -> None:
    _make(acme, globex, ending, mess)


@pytest.mark.parametrize("ending", ENDINGS)
def test_after_each_ending(one_child: Process, acme: Tenant, globex: Tenant, ending: str) -> None:
    _make(acme, globex, ending, "another schema")
    _make(acme, globex, ending, "an open atomic block, broken")


@pytest.mark.parametrize("pool", POOLS)
def test_in_other_pools(start_worker: Callable[..., Process], acme: Tenant, globex: Tenant, pool: str) -> None:
    start_worker("-P", pool, "-c", POOLS[pool], "-Q", pool)
    for ending in ENDINGS.keys() - PREFORK_ONLY:
        _make(acme, globex, ending, "another schema", queue=pool)
    for mess in MESSES:
        _make(acme, globex, "exception", mess, queue=pool)


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_tasks_of_two_tenants_side_by_side(
    start_worker: Callable[..., Process], acme: Tenant, globex: Tenant, pool: str
) -> None:
    start_worker("-P", pool, "-c", "8", "-Q", pool)
    for number in range(8):
        schema = (acme if number % 2 else globex).schema_name
        with schema_context(schema):
            lingers.apply_async((schema,), queue=pool)

    eventually(lambda: len(probes.ran()) == 16, "all ran")
    assert [run["lap"] for run in probes.ran()] == ["first"] * 8 + ["last"] * 8
    for schema in (acme.schema_name, globex.schema_name):
        assert where_ran(schema) == [schema] * 8


def test_greenlets_leave_no_connections(start_worker: Callable[..., Process], acme: Tenant) -> None:
    worker = start_worker("-P", "gevent", "-c", "20", "-Q", "gevent", PGAPPNAME="greenlets")
    with schema_context(acme.schema_name):
        for _ in range(20):
            probe.apply_async(("acme",), queue="gevent")
    eventually(lambda: worker.output.count("succeeded in") == 20, "all ran")

    assert where_ran("acme") == [acme.schema_name] * 20
    eventually(lambda: _connections() <= 1, "the connections are closed")


def _connections() -> int:
    with connection.cursor() as cursor:
        greenlets = "application_name = 'greenlets' AND datname = current_database()"
        cursor.execute(f"SELECT FROM pg_stat_activity WHERE {greenlets}")
        return int(cursor.rowcount)


def _make(acme: Tenant, globex: Tenant, ending: str, mess: str, queue: str | None = None) -> None:
    """Make a mess in acme, and see that the next tasks of both tenants and the platform know nothing of it."""
    probes.broker().delete(probes.RAN)
    limit = {"soft_time_limit": 0.3} if ending == "soft limit" else {}
    with schema_context(acme.schema_name):
        ends.apply_async(("messy", ending, mess, globex.schema_name), queue=queue, **limit)
    followers = {}
    for schema in ("public", acme.schema_name, globex.schema_name, acme.schema_name, "public"):
        with schema_context(schema):
            followers[probe.apply_async((schema,), queue=queue).id] = schema

    eventually(lambda: len(where_ran("messy")) + sum(map(len, map(where_ran, set(followers.values())))) >= 6, "all ran")
    assert set(where_ran("messy")) == {acme.schema_name}
    for schema in set(followers.values()):
        assert set(where_ran(schema)) == {schema}
    for task_id, schema in followers.items():
        eventually(lambda: results_of(task_id) == {schema: "SUCCESS"}, f"{task_id} succeeded in {schema}")  # noqa: B023
