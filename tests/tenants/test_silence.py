"""Who has a limit does not wait for a PostgreSQL that says nothing; all others wait for as long as it takes."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, transaction
from django_tenants.utils import schema_context, tenant_context
from psycopg.errors import ConnectionTimeout

from tenants.connection import connection, retry_on_broken_connection
from tenants.models import Tenant
from tenants.outage import is_away
from tenants.postgresql.silence import Path, Silence, path, patience, wait_no_longer_than
from tenants.session import start_owner
from tests.jobs.claims import deliver
from tests.jobs.durables import atomic, bodies, sql

pytestmark = pytest.mark.usefixtures("committed_db")

SLEEP = "SELECT pg_sleep(60)"
PID = "SELECT pg_backend_pid()"


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    with wait_no_longer_than(0.5):
        yield


def in_a_transaction() -> None:
    with transaction.atomic():
        sql("SELECT 1")
        sql(SLEEP)


def in_a_savepoint() -> None:
    with transaction.atomic(), transaction.atomic():
        sql(SLEEP)


def by_psycopg() -> None:
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.transaction(), connection.connection.cursor() as cursor:
        cursor.execute(SLEEP)


def by_a_copy() -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY ({SLEEP}) TO STDOUT") as copy:
        list(copy)


@pytest.mark.parametrize("ask", [lambda: sql(SLEEP), in_a_transaction, in_a_savepoint, by_psycopg, by_a_copy])
def test_who_waits_in_vain_hears_that_the_database_is_away(ask: Callable[[], Any]) -> None:
    with pytest.raises((OperationalError, psycopg.OperationalError)) as raised:
        ask()
    assert is_away(raised.value)
    connection.close()
    assert sql("SELECT 1") == [(1,)]


def test_what_has_waited_in_vain_is_not_tried_again() -> None:
    tries: list[str] = []

    def ask() -> None:
        tries.append(SLEEP)
        sql(SLEEP)

    with pytest.raises(OperationalError):
        retry_on_broken_connection(ask)
    connection.close()
    assert tries == [SLEEP]


def test_an_answer_that_comes_bit_by_bit_is_no_silence() -> None:
    rows = sql("SELECT repeat('x', 20000), pg_sleep(0.2) FROM generate_series(1, 10)")
    assert len(rows) == 10


def test_a_job_waits_for_as_long_as_it_takes(acme: Tenant) -> None:
    seen: list[Any] = []
    patience.set(None)  # as a worker's
    bodies(lambda task: seen.append(patience.get()))
    with tenant_context(acme):
        job = atomic.delay_on_commit()
    deliver(job)
    assert seen == [None]


# Other connections of the process


def test_the_next_owner_does_not_trust_what_was_connected_before_a_silence() -> None:
    def next_owner() -> Any:
        start_owner()
        with schema_context("public"):
            return sql(PID)

    kept = next_owner()
    assert next_owner() == kept
    path.note_silence()
    fresh = next_owner()
    assert fresh != kept
    assert next_owner() == fresh
    path.note_silence()
    patience.set(None)
    assert next_owner() == fresh


@pytest.mark.parametrize("error", [ConnectionTimeout(), Silence()])
def test_after_a_connection_could_not_be_made_in_time_nobody_waits_for_the_next(error: psycopg.Error) -> None:
    way = Path(pause=3600)
    with pytest.raises(type(error)), way.connecting():
        raise error
    with pytest.raises(Silence), way.connecting():
        raise AssertionError("It connects.")


def test_one_tries_again_and_the_others_do_not_wait() -> None:
    way = Path(pause=0)
    with pytest.raises(ConnectionTimeout), way.connecting():
        raise ConnectionTimeout
    with way.connecting(), pytest.raises(Silence), way.connecting():
        raise AssertionError("Two connect.")
    with way.connecting(), way.connecting():  # it is there again
        pass


@pytest.mark.parametrize("error", [psycopg.OperationalError(), KeyboardInterrupt()])
def test_who_hears_no_at_once_keeps_nobody_from_asking(error: BaseException) -> None:
    way = Path(pause=0)
    with pytest.raises(ConnectionTimeout), way.connecting():
        raise ConnectionTimeout
    with pytest.raises(type(error)), way.connecting():
        raise error
    with way.connecting(), way.connecting():
        pass
