"""Whatever a body leaves behind, and however it ends, the next owner finds nothing: in real workers of each pool."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django_tenants.utils import schema_context

from devstack.processes import Process
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import WORKER, ended, eventually
from tests.jobs.durables import groups, sql
from tests.jobs.owners import AT_ONCE, leaves, leaves_outside, looks, looks_outside, looks_with_all, sweeps
from tests.leftovers import LEFTOVERS, NOT_IN_A_TRANSACTION, TRANSACTIONS

# With how much at a time. A gevent worker looks for more work every two seconds only, once it has all it may have.
POOLS = {"prefork": "1", "threads": "1", "solo": "1", "gevent": "8"}
# Who leaves something behind, who comes next, and whether they are durable jobs.
KINDS: dict[str, tuple[Any, Any, bool]] = {
    "plain task": (leaves, looks, False),
    "durable job": (leaves, looks, True),
    "durable job outside of transactions": (leaves_outside, looks_outside, True),
    "sweep": (sweeps, looks, False),
}
ENDINGS = ["success", "exception", "soft limit", "retry", "swallowed error"]
# Elsewhere there are no limits, and so no job that needs one.
PREFORK_ONLY = {"soft limit", "durable job outside of transactions"}


STILL_RUNS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query ~ 'pg_sleep'
"""
WHATS = [("everything", ending) for ending in ENDINGS] + [(transaction, "exception") for transaction in TRANSACTIONS]
CASES = [
    (pool, kind, what, ending)
    for pool, kind, (what, ending) in product(POOLS, KINDS, WHATS)
    if pool == "prefork" or not {kind, ending} & PREFORK_ONLY
]


@pytest.fixture(scope="module")
def _relay(_own_database: None, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    log = tmp_path_factory.mktemp("relay") / "relay.log"
    with Process("relay", ["python", "manage.py", "relay"], log=log, env={"RELAY_IDLE_POLL": "0.02"}):
        yield


class Pools:
    """A worker of the pool that is asked for, which serves all of its cases."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers: dict[str, Process] = {}

    def start(self, pool: str) -> None:
        if pool in self._workers:
            return
        self.stop()
        command = [*WORKER, "-n", f"{pool}-{self._folder.name}", "-P", pool, "-c", POOLS[pool], "--without-mingle"]
        worker = Process(pool, command, log=self._folder / f"{pool}.log", ready=lambda: " ready." in worker.output)
        self._workers[pool] = worker.start()

    def stop(self) -> None:
        while self._workers:
            self._workers.popitem()[1].stop()


@pytest.fixture(scope="module")
def pools(_relay: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pools]:
    pools = Pools(tmp_path_factory.mktemp("pools"))
    yield pools
    pools.stop()


@pytest.fixture(autouse=True)
def _committed(committed_db: None) -> Iterator[None]:
    yield
    current_app.control.purge()


def send(task: Any, schema: str, *args: Any, durable: bool, soft_limit: float | None = None, **how: Any) -> str:
    limit = {} if soft_limit is None else {"soft_time_limit": soft_limit}
    with schema_context(schema):
        if durable:
            return str(task.apply_async_on_commit(args, how, **limit))
        return str(task.apply_async(args, how, **limit).id)


def notes(name: str) -> list[dict[str, Any]]:
    return [note for note in probes.ran() if note["name"] == name]


def leave(acme: Tenant, kind: str, what: str, ending: str) -> None:
    """Returns when the body of acme, or of the platform's sweep, has left it all behind and ended."""
    task, _, durable = KINDS[kind]
    schema = "public" if kind == "sweep" else acme.schema_name
    limit = 0.3 if ending == "soft limit" else None
    task_id = send(task, schema, "first", what, ending, durable=durable, soft_limit=limit)
    eventually(lambda: ended(task_id), "the first one ended")


def look(globex: Tenant, kind: str) -> None:
    """Let the next ones look: two of globex and one of the platform, of which each does, or is, a ROLLBACK at first."""
    _, task, durable = KINDS[kind]
    send(task, globex.schema_name, "next", durable=durable, roll_back=True, fail=True)
    kept = send(task, globex.schema_name, "next", durable=durable, keep="kept")
    eventually(lambda: ended(kept) and len(notes("next")) == 2, "the next ones looked")
    assert groups(globex.schema_name) == ["kept"]
    send(looks, "public", "platform", durable=False, roll_back=True)
    eventually(lambda: notes("platform"), "the platform's looked")
    if kind == "sweep":
        eventually(lambda: len(notes("sweeper's job")) == 2, "a job of each tenant looked")


def assert_nobody_found_anything() -> None:
    for note in probes.ran():
        assert note["believed"] == note["schema"]
        assert note.get("found", []) == [], note


@pytest.mark.parametrize(("pool", "kind", "what", "ending"), CASES)
def test_the_next_owners_find_nothing(
    pools: Pools, acme: Tenant, globex: Tenant, pool: str, kind: str, what: str, ending: str
) -> None:
    pools.start(pool)

    leave(acme, kind, what, ending)
    look(globex, kind)

    assert_nobody_found_anything()
    eventually(lambda: not sql(STILL_RUNS), "the statement of the first one is over")
    assert len(notes("first")) == (2 if ending == "retry" else 1)
    if what == "everything":
        [first] = notes("first left")
        assert set(LEFTOVERS) - set(first["left"]) == (NOT_IN_A_TRANSACTION if kind == "durable job" else set())


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_owners_at_the_same_time_find_nothing_of_each_other(
    start_worker: Callable[..., Process], acme: Tenant, globex: Tenant, pool: str
) -> None:
    start_worker("-P", pool, "-c", str(2 * AT_ONCE), "-Q", pool)
    for _ in range(3):
        for turn in range(AT_ONCE):
            with schema_context((acme if turn % 2 else globex).schema_name):
                leaves.apply_async(("first", "everything", "all at once"), queue=pool)
    eventually(lambda: len(notes("first left")) == 3 * AT_ONCE, "all left something")
    for turn in range(2 * AT_ONCE):
        with schema_context((acme if turn % 2 else globex).schema_name):
            looks_with_all.apply_async(("next",), queue=pool)
    eventually(lambda: len(notes("next")) == 2 * AT_ONCE, "all looked")

    assert_nobody_found_anything()
