"""Every cursor, in every situation, is in the schema that is bound and in the transaction that is open, or raises."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import django.db
import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import InternalError, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django_tenants.utils import schema_context
from psycopg import pq
from psycopg.errors import InFailedSqlTransaction
from psycopg.sql import SQL

from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.durables import sql
from tests.jobs.probes import probe
from tests.tenants.cursors import (
    ALL_READS,
    ALL_WRITES,
    ERRORS,
    INSERT,
    READS,
    READS_IN_A_TRANSACTION,
    WRITES,
    WRITES_BY_HAND,
    Write,
    by_django,
    by_hand,
    literal,
    many_by_django,
    psycopg_cursor,
    rows,
)
from tests.tenants.observer import Groups, Observer, groups_in_session

Situation = Callable[[str, str], AbstractContextManager[None]]


class Undo(Exception):
    """Rolls a situation's transaction back."""


@pytest.fixture(autouse=True)
def _session_that_globex_had(committed_db: None, globex: Tenant) -> Iterator[None]:
    connection.close()
    with schema_context(globex.schema_name):
        sql("SELECT 1")
    yield
    connection.close()


# Where: each has `home` bound, and commits at its end, or rolls back what an exception leaves.


@contextmanager
def in_autocommit(home: str, away: str) -> Iterator[None]:
    with schema_context(home):
        yield


@contextmanager
def in_atomic(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic():
        yield


@contextmanager
def in_atomic_after_a_statement(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic():
        sql("SELECT 1")
        yield


@contextmanager
def in_nested_atomic(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic(), transaction.atomic():
        yield


@contextmanager
def after_a_nested_atomic_that_failed(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic():
        with suppress(django.db.Error), transaction.atomic():
            sql("SELECT FROM nowhere")
        yield


@contextmanager
def in_psycopgs_transaction(home: str, away: str) -> Iterator[None]:
    with schema_context(home), connection.connection.transaction():
        yield


@contextmanager
def in_psycopgs_transaction_after_a_statement(home: str, away: str) -> Iterator[None]:
    with schema_context(home), connection.connection.transaction():
        sql("SELECT 1")
        yield


@contextmanager
def in_psycopgs_transaction_in_atomic(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic(), connection.connection.transaction():
        yield


@contextmanager
def after_one_of_psycopgs_that_rolled_back(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic():
        with schema_context(away), connection.connection.transaction(force_rollback=True):
            sql("SELECT 1")
        yield


@contextmanager
def without_autocommit(home: str, away: str) -> Iterator[None]:
    with schema_context(home):
        transaction.set_autocommit(False)
        try:
            yield
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)


@contextmanager
def without_autocommit_after_a_statement(home: str, away: str) -> Iterator[None]:
    with without_autocommit(home, away):
        sql("SELECT 1")
        yield


@contextmanager
def after_begin(home: str, away: str) -> Iterator[None]:
    with schema_context(home):
        sql("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            yield
        except BaseException:
            sql("ROLLBACK")
            raise
        sql("COMMIT")


@contextmanager
def after_another_schema_inside(home: str, away: str) -> Iterator[None]:
    with schema_context(away), transaction.atomic():
        sql("SELECT 1")
        with schema_context(home):
            yield


@contextmanager
def back_from_another_schema(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic():
        sql("SELECT 1")
        with schema_context(away):
            sql("SELECT 1")
        yield


@contextmanager
def after_set_schema_inside(home: str, away: str) -> Iterator[None]:
    with schema_context(away), transaction.atomic():
        sql("SELECT 1")
        connection.set_schema(home)
        yield


@contextmanager
def after_a_rollback_over_another_schema(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic():
        sql("SAVEPOINT here")
        with schema_context(away):
            sql("SELECT 1")
        sql("ROLLBACK TO SAVEPOINT here")
        yield


@contextmanager
def after_a_rollback_into_another_schema(home: str, away: str) -> Iterator[None]:
    """The session's path is then that of the savepoint."""
    with schema_context(away), transaction.atomic():
        sql("SAVEPOINT here")
        with schema_context(home):
            sql("SELECT 1")
            sql("ROLLBACK TO SAVEPOINT here")
            yield


@contextmanager
def after_djangos_rollback_into_another_schema(home: str, away: str) -> Iterator[None]:
    with schema_context(away), transaction.atomic():
        sql("SELECT 1")
        savepoint = transaction.savepoint()
        with schema_context(home):
            sql("SELECT 1")
            transaction.savepoint_rollback(savepoint)
            yield


@contextmanager
def after_an_error_and_a_rollback_to_a_savepoint(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic():
        sql("SAVEPOINT here")
        with schema_context(away), suppress(django.db.Error):
            sql("SELECT FROM nowhere")
        sql("ROLLBACK TO SAVEPOINT here")
        yield


@contextmanager
def after_a_search_path_by_hand(home: str, away: str) -> Iterator[None]:
    with schema_context(home), transaction.atomic():
        sql(f'SET LOCAL search_path = "{away}"')
        yield


@contextmanager
def after_a_session_that_has_a_path(home: str, away: str) -> Iterator[None]:
    with schema_context(home):
        sql(f'SET search_path = "{away}"')
        with transaction.atomic():
            yield


TRANSACTIONS: dict[str, Situation] = {
    "in atomic()": in_atomic,
    "in atomic(), after a statement": in_atomic_after_a_statement,
    "in a nested atomic()": in_nested_atomic,
    "after a nested atomic() that failed": after_a_nested_atomic_that_failed,
    "in psycopg's transaction()": in_psycopgs_transaction,
    "in psycopg's transaction(), after a statement": in_psycopgs_transaction_after_a_statement,
    "in psycopg's transaction() in atomic()": in_psycopgs_transaction_in_atomic,
    "after one of psycopg's that rolled back": after_one_of_psycopgs_that_rolled_back,
    "without autocommit, after a statement": without_autocommit_after_a_statement,
    "after BEGIN": after_begin,
    "after another schema, inside": after_another_schema_inside,
    "back from another schema": back_from_another_schema,
    "after set_schema(), inside": after_set_schema_inside,
    "after ROLLBACK TO over another schema": after_a_rollback_over_another_schema,
    "after ROLLBACK TO into another schema": after_a_rollback_into_another_schema,
    "after Django's rollback into another schema": after_djangos_rollback_into_another_schema,
    "after an error and ROLLBACK TO": after_an_error_and_a_rollback_to_a_savepoint,
    "after a search path by hand": after_a_search_path_by_hand,
    "in a session that has a path": after_a_session_that_has_a_path,
}
# A session's path that its own user changed inside the transaction; a cursor made by hand can't know.
BY_OWN_FAULT = ("after a search path by hand",)


@pytest.mark.parametrize("situation", TRANSACTIONS)
def test_a_write_is_at_home_and_in_the_transaction(
    acme: Tenant, globex: Tenant, observer: Observer, situation: str
) -> None:
    for write in WRITES:
        check_commit_and_rollback(acme, globex, observer, write, TRANSACTIONS[situation])


@pytest.mark.parametrize("situation", [name for name in TRANSACTIONS if name not in BY_OWN_FAULT])
def test_a_write_by_a_cursor_made_by_hand_is_at_home_and_in_the_transaction(
    acme: Tenant, globex: Tenant, observer: Observer, situation: str
) -> None:
    for write in WRITES_BY_HAND:
        check_commit_and_rollback(acme, globex, observer, write, TRANSACTIONS[situation])


def check_commit_and_rollback(
    acme: Tenant, globex: Tenant, observer: Observer, write: str, situation: Situation
) -> None:
    at_home = {acme.schema_name: ["kept"]}
    with situation(acme.schema_name, globex.schema_name):
        ALL_WRITES[write]("kept")
        assert groups_in_session() == at_home, write
        assert observer.groups() == {}, write
    assert observer.groups() == at_home, write

    with suppress(Undo), situation(acme.schema_name, globex.schema_name):
        ALL_WRITES[write]("undone")
        raise Undo
    assert observer.groups() == at_home, write
    observer.forget_groups()


@pytest.mark.parametrize("write", WRITES)
def test_a_write_outside_of_a_transaction_is_at_home_and_committed(
    acme: Tenant, globex: Tenant, observer: Observer, write: str
) -> None:
    with schema_context(acme.schema_name):
        WRITES[write]("a row")
        assert observer.groups() == {acme.schema_name: ["a row"]}
        with schema_context(globex.schema_name):
            WRITES[write]("another")

    assert observer.groups() == {acme.schema_name: ["a row"], globex.schema_name: ["another"]}
    assert connection.connection.info.transaction_status is pq.TransactionStatus.IDLE


def test_a_write_without_autocommit_begins_a_transaction(acme: Tenant, globex: Tenant, observer: Observer) -> None:
    for write in WRITES:
        check_commit_and_rollback(acme, globex, observer, write, without_autocommit)


@pytest.mark.parametrize("write", WRITES_BY_HAND)
def test_a_cursor_made_by_hand_raises_outside_of_a_transaction(acme: Tenant, observer: Observer, write: str) -> None:
    with schema_context(acme.schema_name), pytest.raises(psycopg.Error):
        WRITES_BY_HAND[write]("a row")

    assert observer.groups() == {}
    with schema_context(acme.schema_name):
        Group.objects.create(name="the session goes on")
    assert observer.groups() == {acme.schema_name: ["the session goes on"]}


@pytest.mark.parametrize("situation", [without_autocommit, after_a_search_path_by_hand])
@pytest.mark.parametrize("write", WRITES_BY_HAND)
def test_a_write_by_a_cursor_made_by_hand_is_at_home_or_raises(
    acme: Tenant, globex: Tenant, observer: Observer, write: str, situation: Situation
) -> None:
    """Where it may find no transaction yet, or a path that its own user has set."""
    expected: Groups = {}
    with suppress(*ERRORS), situation(acme.schema_name, globex.schema_name):
        WRITES_BY_HAND[write]("a row")
        assert groups_in_session() == {acme.schema_name: ["a row"]}
        assert observer.groups() == {}
        expected = {acme.schema_name: ["a row"]}

    assert observer.groups() == expected


@pytest.mark.parametrize("write", ALL_WRITES)
def test_a_write_in_a_transaction_that_psycopg_rolls_back_is_gone(acme: Tenant, observer: Observer, write: str) -> None:
    with schema_context(acme.schema_name):
        with connection.connection.transaction(force_rollback=True):
            ALL_WRITES[write]("gone")
            assert groups_in_session() == {acme.schema_name: ["gone"]}
        assert observer.groups() == {}

        with transaction.atomic():
            with connection.connection.transaction(force_rollback=True):
                ALL_WRITES[write]("gone")
            ALL_WRITES[write]("kept")
    assert observer.groups() == {acme.schema_name: ["kept"]}


@pytest.mark.parametrize("write", ALL_WRITES)
def test_after_a_failed_statement_a_write_raises(acme: Tenant, observer: Observer, write: str) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        with suppress(django.db.Error):
            sql("SELECT 1 / 0")
        with pytest.raises(ERRORS):
            ALL_WRITES[write]("a row")
        transaction.set_rollback(True)

    assert observer.groups() == {}


@pytest.mark.parametrize("situation", TRANSACTIONS)
def test_a_read_is_at_home(acme: Tenant, globex: Tenant, observer: Observer, situation: str) -> None:
    add_a_group_each(observer, acme, globex)
    for read in READS if situation in BY_OWN_FAULT else ALL_READS:
        with TRANSACTIONS[situation](acme.schema_name, globex.schema_name):
            assert ALL_READS[read]() == [acme.schema_name], read


@pytest.mark.parametrize("read", READS)
def test_a_read_outside_of_a_transaction_is_at_home(
    acme: Tenant, globex: Tenant, observer: Observer, read: str
) -> None:
    add_a_group_each(observer, acme, globex)

    for tenant in (acme, globex, acme):
        with schema_context(tenant.schema_name):
            assert READS[read]() == [tenant.schema_name]
    assert connection.connection.info.transaction_status is pq.TransactionStatus.IDLE


@pytest.mark.parametrize("read", READS_IN_A_TRANSACTION)
def test_what_needs_a_transaction_raises_outside_of_one(
    acme: Tenant, globex: Tenant, observer: Observer, read: str
) -> None:
    add_a_group_each(observer, acme, globex)

    with schema_context(acme.schema_name), pytest.raises(psycopg.Error):
        READS_IN_A_TRANSACTION[read]()


def add_a_group_each(observer: Observer, *tenants: Tenant) -> None:
    for schema in ("public", *(tenant.schema_name for tenant in tenants)):
        observer.add_group(schema, schema)


def test_rows_of_a_server_side_cursor_are_those_of_the_schema_that_it_was_opened_in(
    acme: Tenant, globex: Tenant, observer: Observer
) -> None:
    for number in range(3):
        observer.add_group(acme.schema_name, f"acme {number}")
        observer.add_group(globex.schema_name, f"globex {number}")

    names = []
    with schema_context(acme.schema_name):
        for group in Group.objects.order_by("name").iterator(chunk_size=1):
            names.append(group.name)
            with schema_context(globex.schema_name):
                assert sorted(Group.objects.values_list("name", flat=True))[0] == "globex 0"
    assert names == ["acme 0", "acme 1", "acme 2"]


# psycopg's transaction(), and its pipeline


@pytest.mark.parametrize("first", ["", "SELECT 1"])
def test_psycopgs_transaction_inside_atomic_is_a_savepoint(acme: Tenant, observer: Observer, first: str) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        if first:
            sql(first)
        with connection.connection.transaction():
            Group.objects.create(name="a row")
        assert observer.groups() == {}
        transaction.set_rollback(True)

    assert observer.groups() == {}


@pytest.mark.parametrize("error", [psycopg.Rollback, Undo])
def test_psycopgs_transaction_that_an_exception_leaves_takes_only_its_own(
    acme: Tenant, observer: Observer, error: type[Exception]
) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        Group.objects.create(name="before")
        with suppress(Undo), connection.connection.transaction():
            Group.objects.create(name="inside")
            raise error
        Group.objects.create(name="after")

    assert observer.groups() == {acme.schema_name: ["after", "before"]}


def test_psycopgs_transactions_nest(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name), connection.connection.transaction():
        with connection.connection.transaction():
            Group.objects.create(name="kept")
        with connection.connection.transaction(force_rollback=True):
            Group.objects.create(name="undone")
        with suppress(Undo), connection.connection.transaction("named"):
            Group.objects.create(name="undone as well")
            raise Undo
        assert observer.groups() == {}

    assert observer.groups() == {acme.schema_name: ["kept"]}


def test_atomic_inside_psycopgs_transaction_does_not_commit_it(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name), suppress(*ERRORS, Undo), connection.connection.transaction():
        with transaction.atomic():
            Group.objects.create(name="a row")
        raise Undo

    assert observer.groups() == {}


@pytest.mark.parametrize("situation", [in_autocommit, in_atomic, in_atomic_after_a_statement, in_psycopgs_transaction])
def test_a_pipeline_raises(acme: Tenant, globex: Tenant, observer: Observer, situation: Situation) -> None:
    with pytest.raises(ERRORS), situation(acme.schema_name, globex.schema_name), connection.connection.pipeline():
        connection.connection.execute(INSERT, ["a row"])

    assert observer.groups() == {}
    with schema_context(acme.schema_name):
        Group.objects.create(name="the session goes on")
    assert observer.groups() == {acme.schema_name: ["the session goes on"]}


# A COMMIT that PostgreSQL answers with ROLLBACK

COMMITS: dict[str, Callable[[], Any]] = {
    "Django's commit()": lambda: connection.commit(),
    "psycopg's commit()": lambda: connection.connection.commit(),
    "COMMIT": lambda: sql("COMMIT"),
    "END": lambda: sql(" /* the */ end transaction"),
    "COMMIT as bytes": lambda: by_django(b"COMMIT"),
    "COMMIT composed": lambda: by_django(SQL("COM{}").format(SQL("MIT"))),
    "COMMIT by the connection": lambda: connection.connection.execute("COMMIT"),
    "COMMIT by a Cursor": lambda: by_hand(psycopg.Cursor).execute("COMMIT"),
    "COMMIT by a ClientCursor": lambda: by_hand(psycopg.ClientCursor).execute("COMMIT"),
    "COMMIT by a RawCursor": lambda: by_hand(psycopg.RawCursor).execute("COMMIT"),
    "COMMIT before a BEGIN": lambda: sql("COMMIT; BEGIN"),
    "COMMIT behind an empty statement": lambda: sql(";COMMIT"),
}


@pytest.mark.parametrize("commit", COMMITS)
def test_a_commit_that_rolls_back_raises_whoever_sends_it(acme: Tenant, observer: Observer, commit: str) -> None:
    transaction.set_autocommit(False)
    try:
        with schema_context(acme.schema_name):
            Group.objects.create(name="a row")
            with suppress(django.db.Error):
                sql("SELECT 1 / 0")
            with pytest.raises((InternalError, InFailedSqlTransaction)):
                COMMITS[commit]()
    finally:
        connection.close()

    assert observer.groups() == {}


@pytest.mark.parametrize("commit", ["COMMIT", "COMMIT by the connection", "psycopg's commit()"])
def test_a_commit_that_rolls_back_raises_after_a_begin_by_hand(acme: Tenant, observer: Observer, commit: str) -> None:
    with schema_context(acme.schema_name):
        sql("BEGIN")
        Group.objects.create(name="a row")
        with suppress(django.db.Error):
            sql("SELECT 1 / 0")
        with pytest.raises((InternalError, InFailedSqlTransaction)):
            COMMITS[commit]()
        Group.objects.create(name="the next one")

    assert observer.groups() == {acme.schema_name: ["the next one"]}


def fail_by_django() -> None:
    with suppress(django.db.Error):
        sql("SELECT 1 / 0")


def fail_by_hand() -> None:
    with suppress(psycopg.Error):
        by_hand(psycopg.Cursor).execute("SELECT 1 / 0")


def write_and_fail_in_psycopgs_transaction(fail: Callable[[], None]) -> None:
    with connection.connection.transaction():
        Group.objects.create(name="a row")
        fail()


@pytest.mark.parametrize("fail", [fail_by_django, fail_by_hand])
def test_the_end_of_psycopgs_transaction_raises_if_it_rolls_back(
    acme: Tenant, observer: Observer, fail: Callable[[], None]
) -> None:
    with schema_context(acme.schema_name):
        with pytest.raises((InternalError, InFailedSqlTransaction)):
            write_and_fail_in_psycopgs_transaction(fail)
        Group.objects.create(name="the next one")

    assert observer.groups() == {acme.schema_name: ["the next one"]}


def test_atomic_raises_if_a_cursor_made_by_hand_failed_in_it(acme: Tenant, observer: Observer) -> None:
    @transaction.atomic
    def write_and_fail() -> None:
        Group.objects.create(name="a row")
        transaction.on_commit(lambda: hooks.append("ran"))
        fail_by_hand()

    hooks: list[str] = []
    with schema_context(acme.schema_name), pytest.raises(InternalError):
        write_and_fail()

    assert observer.groups() == {}
    assert hooks == []


# A message of several statements


@pytest.mark.parametrize(
    "rollback",
    ["ROLLBACK TO SAVEPOINT here", "rollback to here", "ROLLBACK WORK TO SAVEPOINT here", "/**/ROLLBACK TO here"],
)
@pytest.mark.parametrize("execute", [by_django, lambda query: connection.connection.execute(query)])
def test_a_statement_behind_a_rollback_in_the_same_message_raises(
    acme: Tenant, globex: Tenant, observer: Observer, execute: Write, rollback: str
) -> None:
    """Its path would be that of the savepoint."""
    with schema_context(globex.schema_name), suppress(Undo), transaction.atomic():
        sql("SAVEPOINT here")
        with schema_context(acme.schema_name):
            with pytest.raises(ERRORS):
                execute(f"{rollback}; {literal('a row')}")
            raise Undo

    assert observer.groups() == {}


@pytest.mark.parametrize(
    "end", ["COMMIT", "ROLLBACK", "BEGIN; COMMIT", "END", "ABORT", "COMMIT AND CHAIN", "COMMIT; BEGIN"]
)
@pytest.mark.parametrize(
    "execute",
    [sql, lambda text: by_django(SQL(text)), lambda text: connection.connection.execute(text.encode())],
    ids=["text", "composed", "bytes"],
)
@pytest.mark.parametrize("set_path", ['SET search_path = "{}"', "SELECT set_config('search_path', '{}', false)"])
def test_a_statement_behind_an_end_in_the_same_message_raises(
    acme: Tenant, globex: Tenant, observer: Observer, end: str, set_path: str, execute: Any
) -> None:
    """Its path would be the session's, which an earlier call may have set."""
    with schema_context(acme.schema_name):
        sql(set_path.format(globex.schema_name))
        if not end.startswith("BEGIN"):
            sql("BEGIN")
        with pytest.raises(ERRORS):
            execute(f"{end}; {literal('a row')}")
        connection.close()

    assert observer.groups() == {}


@pytest.mark.parametrize(
    "message",
    [
        "BEGIN; {insert}; COMMIT",
        "BEGIN; {insert}; COMMIT;;  -- the end\n",
        "DO $$ BEGIN NULL; END $$; {insert}",
        "SELECT CASE WHEN true THEN 1 END; {insert}",
    ],
)
def test_a_message_may_hold_an_end_that_nothing_follows(acme: Tenant, observer: Observer, message: str) -> None:
    with schema_context(acme.schema_name):
        sql(message.format(insert=literal("a row")))

    assert observer.groups() == {acme.schema_name: ["a row"]}


@pytest.mark.parametrize("name", ["the end; a row", "\\'; COMMIT; a row", "it''s\\", "ROLLBACK TO here; a row"])
def test_a_client_may_say_anything(acme: Tenant, observer: Observer, name: str) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        Group.objects.create(name=name)
        probe.delay_on_commit(name)

    assert observer.groups() == {acme.schema_name: [name]}
    assert observer.jobs() == [(acme.schema_name, json.dumps([name]))]


def test_a_rollback_to_a_savepoint_may_end_a_message(acme: Tenant, globex: Tenant, observer: Observer) -> None:
    with schema_context(globex.schema_name), transaction.atomic():
        sql("SAVEPOINT here")
        with schema_context(acme.schema_name):
            sql(f"{literal('undone')}; ROLLBACK TO SAVEPOINT here;")
            Group.objects.create(name="kept")

    assert observer.groups() == {acme.schema_name: ["kept"]}


@pytest.mark.parametrize(
    "message",
    [
        "COMMIT; {insert}",
        "COMMIT; BEGIN; {insert}",
        "COMMIT AND CHAIN; {insert}",
        "ROLLBACK; {insert}",
        "ROLLBACK; BEGIN; {insert}; COMMIT",
        "BEGIN; {insert}",
        "SAVEPOINT here; {insert}; ROLLBACK TO here; {insert}",
        "RESET ALL; {insert}",
        "RESET search_path; {insert}",
        'SET search_path = "{away}"; ROLLBACK; {insert}',
        'SET LOCAL search_path = "{away}"; SAVEPOINT here; ROLLBACK TO here',
    ],
)
@pytest.mark.parametrize("situation", [in_autocommit, in_atomic, in_atomic_after_a_statement, after_begin])
def test_no_message_writes_elsewhere(
    acme: Tenant, globex: Tenant, observer: Observer, message: str, situation: Situation
) -> None:
    """A row is at home, or there is none; what is sent next is at home in any case."""
    home, away = acme.schema_name, globex.schema_name
    with suppress(*ERRORS), situation(home, away):
        sql(message.format(insert=literal("a row"), away=away))
    connection.rollback()
    assert {schema for schema in observer.groups() if schema != home} == set()

    with schema_context(home):
        Group.objects.create(name="the next one")
    assert "the next one" in observer.groups()[home]


# Statements that can't be in a transaction


@pytest.fixture
def only_at_home(acme: Tenant, observer: Observer) -> Iterator[None]:
    """A table and a procedure that acme alone has."""
    schema = f'"{acme.schema_name}"'
    observer.execute(f"CREATE TABLE {schema}.only_here (number int)")
    observer.execute(f"CREATE INDEX only_here_number ON {schema}.only_here (number)")
    observer.execute(
        f"""
        CREATE PROCEDURE {schema}.write_both() LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO auth_group (name) VALUES ('one');
            COMMIT;
            INSERT INTO auth_group (name) VALUES ('two');
        END $$
        """
    )
    yield
    observer.execute(f"DROP PROCEDURE {schema}.write_both()")
    observer.execute(f"DROP TABLE {schema}.only_here")


OUTSIDE = [
    "VACUUM only_here",
    "  -- all of it\n  vacuum (analyze) only_here",
    "CREATE INDEX CONCURRENTLY another ON only_here (number)",
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS another ON only_here (number)",
    "DROP INDEX CONCURRENTLY only_here_number",
    "REINDEX TABLE CONCURRENTLY only_here",
    "REINDEX INDEX CONCURRENTLY only_here_number",
    "REINDEX (VERBOSE) TABLE CONCURRENTLY only_here",
]


@pytest.mark.usefixtures("only_at_home")
@pytest.mark.parametrize("statement", OUTSIDE)
def test_a_statement_that_cant_be_in_a_transaction_is_at_home(acme: Tenant, globex: Tenant, statement: str) -> None:
    with schema_context(acme.schema_name):
        sql(statement)
        assert sql("SELECT current_schema()") == [(acme.schema_name,)]
    with schema_context(globex.schema_name), pytest.raises(django.db.Error):
        sql(statement.replace("IF NOT EXISTS", ""))


@pytest.mark.usefixtures("only_at_home")
@pytest.mark.parametrize("statement", OUTSIDE)
def test_and_raises_inside_of_one(acme: Tenant, statement: str) -> None:
    with (
        schema_context(acme.schema_name),
        pytest.raises(django.db.Error, match="transaction block"),
        transaction.atomic(),
    ):
        sql(statement)


DO = """
DO $$ BEGIN
    INSERT INTO auth_group (name) VALUES ('one');
    COMMIT;
    INSERT INTO auth_group (name) VALUES ('two');
END $$
"""


@pytest.mark.usefixtures("only_at_home")
@pytest.mark.parametrize("statement", [DO, "CALL write_both()", "/* both */ call write_both();"])
def test_code_that_commits_stays_at_home(acme: Tenant, globex: Tenant, observer: Observer, statement: str) -> None:
    with schema_context(acme.schema_name):
        sql(statement)
    assert observer.groups() == {acme.schema_name: ["one", "two"]}

    with schema_context(globex.schema_name):
        Group.objects.create(name="the next one")
    assert observer.groups()[globex.schema_name] == ["the next one"]


@pytest.mark.usefixtures("only_at_home")
def test_code_that_does_not_commit_is_in_the_transaction(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        sql(DO.replace("COMMIT;", ""))
        assert groups_in_session() == {acme.schema_name: ["one", "two"]}
        transaction.set_rollback(True)

    assert observer.groups() == {}


@pytest.mark.usefixtures("only_at_home")
@pytest.mark.parametrize("statement", ["VACUUM only_here", "REINDEX TABLE CONCURRENTLY only_here", DO])
def test_none_of_them_leaves_a_path_behind(acme: Tenant, statement: str) -> None:
    with schema_context(acme.schema_name):
        sql(statement)
        with pytest.raises(psycopg.Error):
            rows(by_hand(psycopg.Cursor))


@pytest.mark.usefixtures("only_at_home")
def test_one_of_them_that_fails_leaves_no_path_behind(acme: Tenant, globex: Tenant) -> None:
    with schema_context(acme.schema_name):
        with pytest.raises(django.db.Error):
            sql("VACUUM nowhere")
        with pytest.raises(psycopg.Error):
            rows(by_hand(psycopg.Cursor))
    with schema_context(globex.schema_name):
        assert sql("SELECT current_schema()") == [(globex.schema_name,)]


# What must be a transaction's first statement

SERIALIZABLE = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"


@pytest.mark.parametrize("situation", [in_atomic, in_psycopgs_transaction, after_begin, without_autocommit])
def test_a_transactions_level_can_be_set(
    acme: Tenant, globex: Tenant, observer: Observer, situation: Situation
) -> None:
    with situation(acme.schema_name, globex.schema_name):
        sql(SERIALIZABLE)
        assert sql("SHOW transaction_isolation") == [("serializable",)]
        Group.objects.create(name="a row")

    assert observer.groups() == {acme.schema_name: ["a row"]}


def test_a_transactions_level_can_be_set_by_a_cursor_made_by_hand(acme: Tenant) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        by_hand(psycopg.Cursor).execute(SERIALIZABLE)
        assert sql("SHOW transaction_isolation") == [("serializable",)]


# Temporary tables


@pytest.mark.parametrize("situation", [in_autocommit, in_atomic, in_psycopgs_transaction, after_begin])
@pytest.mark.parametrize("write", ["the ORM", "psycopg's cursor", "psycopg's copy", "psycopg's stream"])
def test_a_temporary_table_hides_no_real_one(
    acme: Tenant, globex: Tenant, observer: Observer, write: str, situation: Situation
) -> None:
    with situation(acme.schema_name, globex.schema_name):
        sql("CREATE TEMP TABLE auth_group (LIKE auth_group)")
        WRITES[write]("a row")
        assert sql("SELECT count(*) FROM pg_temp.auth_group") == [(0,)]

    assert observer.groups() == {acme.schema_name: ["a row"]}


def test_a_temporary_table_hides_no_real_one_from_a_cursor_made_by_hand(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        sql("CREATE TEMP TABLE auth_group (LIKE auth_group)")
        by_hand(psycopg.Cursor).execute(INSERT, ["a row"])

    assert observer.groups() == {acme.schema_name: ["a row"]}


@pytest.mark.parametrize("situation", [in_autocommit, in_atomic])
def test_a_temporary_table_is_found_by_its_name(acme: Tenant, globex: Tenant, situation: Situation) -> None:
    with situation(acme.schema_name, globex.schema_name):
        sql("CREATE TEMP TABLE staging (name text)")
        sql("INSERT INTO staging VALUES ('staged')")
        assert sql("SELECT name FROM staging") == [("staged",)]


# What goes before a statement does not show

SHOWN: dict[str, Situation] = {
    "in autocommit": in_autocommit,
    "in atomic()": in_atomic,
    "in atomic(), after a statement": in_atomic_after_a_statement,
    "in psycopg's transaction()": in_psycopgs_transaction,
    "without autocommit": without_autocommit,
    "after BEGIN": after_begin,
}
Cursors = Callable[[], Any]
CURSORS: dict[str, Cursors] = {
    "Django's": lambda: connection.cursor(),
    "psycopg's": lambda: connection.connection.cursor(),
}


@pytest.mark.parametrize("situation", SHOWN)
@pytest.mark.parametrize("cursors", CURSORS)
@pytest.mark.parametrize(
    ("query", "parameters"),
    [("SELECT * FROM (VALUES (1, %s), (2, 'b')) v (x, y)", ["a"]), ("VALUES (1, 'a'), (2, 'b')", None)],
)
def test_results_are_those_of_the_statement(
    acme: Tenant, globex: Tenant, query: str, parameters: list[str] | None, cursors: str, situation: str
) -> None:
    with SHOWN[situation](acme.schema_name, globex.schema_name), CURSORS[cursors]() as cursor:
        cursor.execute(query, parameters)

        assert cursor.rowcount == 2
        assert len(cursor.description) == 2
        assert cursor.statusmessage == "SELECT 2"
        assert cursor.fetchone() == (1, "a")
        assert cursor.fetchmany(5) == [(2, "b")]
        assert cursor.fetchall() == []
        assert not cursor.nextset()


@pytest.mark.parametrize("situation", SHOWN)
@pytest.mark.parametrize("cursors", CURSORS)
def test_a_statement_without_rows_has_a_count(acme: Tenant, globex: Tenant, cursors: str, situation: str) -> None:
    with SHOWN[situation](acme.schema_name, globex.schema_name), CURSORS[cursors]() as cursor:
        cursor.execute("INSERT INTO auth_group (name) VALUES ('one'), (%s)", ["two"])
        assert (cursor.rowcount, cursor.description, cursor.statusmessage) == (2, None, "INSERT 0 2")

        cursor.execute("UPDATE auth_group SET name = name || '!' RETURNING name")
        assert (cursor.rowcount, cursor.statusmessage) == (2, "UPDATE 2")

        cursor.executemany("DELETE FROM auth_group WHERE name = %s", [("one!",), ("two!",), ("three!",)])
        assert cursor.rowcount == 2


@pytest.mark.parametrize("situation", SHOWN)
@pytest.mark.parametrize("cursors", CURSORS)
def test_each_result_of_several_statements_can_be_had(
    acme: Tenant, globex: Tenant, cursors: str, situation: str
) -> None:
    with SHOWN[situation](acme.schema_name, globex.schema_name), CURSORS[cursors]() as cursor:
        cursor.execute("SELECT 1; SELECT 2, 3; INSERT INTO auth_group (name) VALUES ('a row'); SELECT current_schema()")

        assert cursor.fetchall() == [(1,)]
        assert cursor.nextset()
        assert cursor.fetchall() == [(2, 3)]
        assert cursor.nextset()
        assert cursor.statusmessage == "INSERT 0 1"
        assert cursor.nextset()
        assert cursor.fetchall() == [(acme.schema_name,)]
        assert not cursor.nextset()


@pytest.mark.parametrize("situation", SHOWN)
def test_psycopgs_ways_to_results_lead_to_those_of_the_statements(acme: Tenant, globex: Tenant, situation: str) -> None:
    with SHOWN[situation](acme.schema_name, globex.schema_name):
        cursor = psycopg_cursor().execute("SELECT 1; SELECT 2")
        assert [result.fetchall() for result in cursor.results()] == [[(1,)], [(2,)]]
        assert cursor.set_result(0).fetchone() == (1,)
        assert cursor.set_result(-1).fetchone() == (2,)
        with pytest.raises(IndexError):
            cursor.set_result(2)
        with pytest.raises(IndexError):
            cursor.set_result(-3)


@pytest.mark.parametrize("situation", SHOWN)
def test_the_log_of_queries_has_the_statement_alone(acme: Tenant, globex: Tenant, situation: str) -> None:
    with SHOWN[situation](acme.schema_name, globex.schema_name), CaptureQueriesContext(connection) as captured:
        by_django("SELECT 1")
        by_django("SELECT %s", 2)
        many_by_django("a row")

    logged = [query["sql"] for query in captured.captured_queries]
    assert logged[:2] == ["SELECT 1", "SELECT 2"]
    assert len(logged) == 3
    assert "search_path" not in str(logged)


@pytest.mark.parametrize("situation", SHOWN)
def test_execute_wrappers_get_the_statement_alone(acme: Tenant, globex: Tenant, situation: str) -> None:
    seen: list[Any] = []

    def record(execute: Any, query: str, parameters: Any, many: bool, context: Any) -> Any:
        seen.append((query, parameters, many))
        return execute(query, parameters, many, context)

    with SHOWN[situation](acme.schema_name, globex.schema_name), connection.execute_wrapper(record):
        by_django("SELECT 1")
        by_django("SELECT %s", 2)
        many_by_django("a row")

    assert seen == [("SELECT 1", None, False), ("SELECT %s", (2,), False), (INSERT, [("a row",)], True)]


@pytest.mark.parametrize("situation", SHOWN)
def test_an_error_shows_the_statement_alone(acme: Tenant, globex: Tenant, situation: str) -> None:
    raises = pytest.raises(django.db.ProgrammingError)
    with raises as raised, SHOWN[situation](acme.schema_name, globex.schema_name):
        sql("SELECT wrong")

    assert ": SELECT wrong\n" in str(raised.value)
    assert "search_path" not in str(raised.value)


@pytest.mark.parametrize("situation", SHOWN)
@pytest.mark.parametrize(
    "query",
    [
        "",
        " \n",
        ";",
        "-- nothing",
        "/* nothing */",
        ";; SELECT 1",
        "SELECT 1;",
        "SELECT 1; -- the end",
        "-- one\nSELECT 1",
    ],
)
def test_odd_statements_do_what_psycopg_does(
    acme: Tenant, globex: Tenant, observer: Observer, query: str, situation: str
) -> None:
    expected = outcome(psycopg.ClientCursor(observer.session), query)
    with SHOWN[situation](acme.schema_name, globex.schema_name):
        with connection.cursor() as cursor:
            assert outcome(cursor, query) == expected
        assert outcome(psycopg_cursor(), query) == expected
        Group.objects.create(name="the next one")

    assert observer.groups() == {acme.schema_name: ["the next one"]}


def outcome(cursor: Any, query: str) -> tuple[Any, ...]:
    cursor.execute(query)
    rows = cursor.fetchall() if cursor.description is not None else None
    return cursor.statusmessage, cursor.rowcount, rows, bool(cursor.nextset())


def test_a_query_set_reads_and_writes_at_home_by_turns(acme: Tenant, globex: Tenant, observer: Observer) -> None:
    """No statement relies on the one before it."""
    for turn in range(3):
        for tenant in (acme, globex):
            with schema_context(tenant.schema_name):
                Group.objects.create(name=f"{turn}")
                assert Group.objects.count() == turn + 1
                Group.objects.filter(name=f"{turn}").update(name=F("name"))

    assert observer.groups() == {tenant.schema_name: ["0", "1", "2"] for tenant in (acme, globex)}
