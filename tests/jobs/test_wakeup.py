"""A dispatch wakes relays that sleep, and nobody while one is busy."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import current_app
from django.db import transaction
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.relay.listener import CHANNEL, IS_BUSY, LISTENS, LOCK
from jobs.relay.publisher import MIN_DEPTH
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.conftest import eventually, out_of_bounds
from tests.jobs.durables import queue_length, sql
from tests.jobs.probes import probe

# Nothing is found by polling.
SLEEPY = out_of_bounds(RELAY_IDLE_POLL=600)
HOLDERS = """
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Starts relays that sleep."""
    relays: list[Process] = []
    current_app.control.purge()

    def start() -> Process:
        log = tmp_path / f"relay{len(relays)}.log"
        relays.append(Process("relay", ["python", "manage.py", "relay"], log=log, env=SLEEPY).start())
        eventually(lambda: len(sql(HOLDERS, LOCK, LISTENS)) == len(relays), "it listens")
        eventually(lambda: not sql(HOLDERS, LOCK, IS_BUSY), "it sleeps")
        return relays[-1]

    yield start
    for relay in relays:
        relay.stop()
    current_app.control.purge()


class Session:
    """Of a relay, as PostgreSQL sees it."""

    def __init__(self) -> None:
        parameters: dict[str, Any] = {**connection.get_connection_params(), "autocommit": True}
        del parameters["cursor_factory"], parameters["context"]
        self._psycopg = psycopg.connect(**parameters)
        self._psycopg.execute(f"LISTEN {CHANNEL}")

    def hold(self, lock: int) -> None:
        self._psycopg.execute("SELECT pg_advisory_lock_shared(%s, %s)", [LOCK, lock])

    def keep(self, lock: int) -> None:
        """For itself, as a dispatch does while it asks."""
        self._psycopg.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK, lock])

    def let_go(self, lock: int) -> None:
        self._psycopg.execute("SELECT pg_advisory_unlock_shared(%s, %s)", [LOCK, lock])

    def wakes(self) -> int:
        """What has come since the last look. A statement's answer comes after what was notified before it."""
        self._psycopg.execute("SELECT 1")
        return len(list(self._psycopg.notifies(timeout=0)))

    def close(self) -> None:
        self._psycopg.close()


@pytest.fixture
def sessions() -> Iterator[tuple[Session, Session]]:
    sessions = Session(), Session()
    yield sessions
    for session in sessions:
        session.close()


def dispatch(tenant: Tenant, **options: Any) -> None:
    with schema_context(tenant.schema_name):
        probe.apply_async_on_commit(("one",), **options)


def test_a_dispatch_wakes_a_relay_that_sleeps(start: Callable[[], Process], acme: Tenant) -> None:
    start()
    for _ in range(3):
        dispatch(acme)
        eventually(queue_length, "it is published")
        current_app.control.purge()
        eventually(lambda: not sql(HOLDERS, LOCK, IS_BUSY), "it sleeps again")


def test_nobody_wakes_a_relay_whose_queue_is_full_and_it_sees_when_there_is_room(
    start: Callable[[], Process], sessions: tuple[Session, Session], acme: Tenant
) -> None:
    start()
    with schema_context(acme.schema_name):
        probe.map_on_commit([("one",)] * 50)
    eventually(lambda: queue_length() >= MIN_DEPTH, "it is full")
    eventually(lambda: sql(HOLDERS, LOCK, IS_BUSY), "it asks nobody to wake it")
    sessions[0].wakes()
    dispatch(acme)
    assert sessions[0].wakes() == 0

    current_app.control.purge()
    eventually(queue_length, "it sends more")


def test_a_stop_wakes_it_too(start: Callable[[], Process]) -> None:
    relay = start()
    relay.signal(signal.SIGTERM)
    eventually(lambda: not relay.running, "it ended")
    assert relay.returncode == 0


def test_whoever_lives_is_woken_once_another_one_has_died(start: Callable[[], Process], acme: Tenant) -> None:
    first, _ = start(), start()
    first.kill()
    eventually(lambda: len(sql(HOLDERS, LOCK, LISTENS)) == 1, "its session ended")
    dispatch(acme)
    eventually(lambda: queue_length() == 1, "it is published")


def test_it_listens_again_when_it_has_lost_its_session(start: Callable[[], Process], acme: Tenant) -> None:
    start()
    [[before]] = sql(HOLDERS, LOCK, LISTENS)
    sql("SELECT pg_terminate_backend(%s, 5000)", before)
    eventually(lambda: sql(HOLDERS, LOCK, LISTENS) not in ([], [(before,)]), "it listens again")
    eventually(lambda: not sql(HOLDERS, LOCK, IS_BUSY), "it sleeps")
    dispatch(acme)
    eventually(lambda: queue_length() == 1, "it is published")


def test_nobody_is_woken_while_one_is_busy(sessions: tuple[Session, Session], acme: Tenant) -> None:
    idle, busy = sessions
    idle.hold(LISTENS)
    busy.hold(LISTENS)
    busy.hold(IS_BUSY)
    dispatch(acme)
    assert idle.wakes() == 0

    busy.let_go(IS_BUSY)
    dispatch(acme)
    assert (idle.wakes(), busy.wakes()) == (1, 1)


def test_nobody_notifies_while_nobody_listens(sessions: tuple[Session, Session], acme: Tenant) -> None:
    dispatch(acme)
    assert sessions[0].wakes() == 0


def test_a_transaction_wakes_once_and_only_if_it_commits(sessions: tuple[Session, Session], acme: Tenant) -> None:
    sessions[0].hold(LISTENS)
    with transaction.atomic():
        dispatch(acme)
        transaction.set_rollback(True)
    assert sessions[0].wakes() == 0

    with transaction.atomic():
        for _ in range(10):
            dispatch(acme)
        assert sessions[0].wakes() == 0
    assert sessions[0].wakes() == 1


@pytest.mark.parametrize("lock", [LISTENS, IS_BUSY])
def test_no_relay_waits_for_a_lock_that_a_dispatch_can_hold(
    sessions: tuple[Session, Session], acme: Tenant, tmp_path: Path, lock: int
) -> None:
    """However long one does."""
    current_app.control.purge()
    sessions[0].keep(lock)
    with Process("relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log"):
        for _ in range(2):
            dispatch(acme)
            eventually(queue_length, "it is published")
            current_app.control.purge()


def test_no_lock_is_left_behind(sessions: tuple[Session, Session], acme: Tenant) -> None:
    for lock in (LISTENS, IS_BUSY):
        sessions[0].hold(lock)
        dispatch(acme)
        assert len(sql(HOLDERS, LOCK, LISTENS) + sql(HOLDERS, LOCK, IS_BUSY)) == lock
