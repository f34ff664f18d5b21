"""Whatever a task does and however it ends, the next one in its process, thread or greenlet starts clean."""

from collections.abc import Callable

import pytest
from django_tenants.utils import schema_context

from devstack.processes import Process
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import eventually, results_of, where_ran
from tests.jobs.probes import ENDINGS, MESSES, ends, probe

# What needs a process that may be killed or interrupted by a signal.
PREFORK_ONLY = {"soft limit", "kill -9"}
# `shared` pools: the one thread (or the greenlets) of the next task are those of the last one.
POOLS = {
    "threads": ("-P", "threads", "-c", "1"),
    "gevent": ("-P", "gevent", "-c", "1"),
    "solo": ("-P", "solo"),
}


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
    start_worker(*POOLS[pool])
    for ending in ENDINGS.keys() - PREFORK_ONLY:
        _make(acme, globex, ending, "another schema")
    for mess in MESSES:
        _make(acme, globex, "exception", mess)


def _make(acme: Tenant, globex: Tenant, ending: str, mess: str) -> None:
    """Make a mess in acme, and see that the next tasks of both tenants and the platform know nothing of it."""
    probes.broker().delete(probes.RAN)
    limit = {"soft_time_limit": 0.3} if ending == "soft limit" else {}
    with schema_context(acme.schema_name):
        ends.apply_async(("messy", ending, mess, globex.schema_name), **limit)
    followers = {}
    for schema in ("public", acme.schema_name, globex.schema_name, acme.schema_name, "public"):
        with schema_context(schema):
            followers[probe.delay(schema).id] = schema

    eventually(lambda: len(where_ran("messy")) + sum(map(len, map(where_ran, set(followers.values())))) >= 6, "all ran")
    assert set(where_ran("messy")) == {acme.schema_name}
    for schema in set(followers.values()):
        assert set(where_ran(schema)) == {schema}
    for task_id, schema in followers.items():
        eventually(lambda: results_of(task_id) == {schema: "SUCCESS"}, f"{task_id} succeeded in {schema}")  # noqa: B023
