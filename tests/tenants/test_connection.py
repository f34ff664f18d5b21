"""What goes over the wire: the search path and BEGIN travel with the statement that needs them."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, InternalError, OperationalError, ProgrammingError, transaction
from django.db.transaction import TransactionManagementError
from django_tenants.utils import schema_context

from jobs.models import Job
from tenants.binding import unbind
from tenants.connection import connection
from tenants.models import Tenant
from tenants.postgresql.messages import Connection
from tests.jobs.claims import deliver
from tests.jobs.durables import atomic, bodies
from tests.jobs.probes import probe
from tests.wire import queries

PUBLIC_PATH = 'SET LOCAL search_path = "public", "pg_catalog", "pg_temp"'


def path_of(tenant: Tenant) -> str:
    return f'SET LOCAL search_path = "{tenant.schema_name}", "pg_catalog", "pg_temp"'


def execute(statement: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description is not None else []


@pytest.fixture(autouse=True)
def _own_session(committed_db: None) -> None:
    connection.close()
    connection.ensure_connection()


def test_a_transaction_begins_with_its_first_statement(acme: Tenant) -> None:
    path = path_of(acme)
    with queries() as sent, schema_context(acme.schema_name), transaction.atomic():
        assert execute("SELECT current_schema()") == [(acme.schema_name,)]
        execute("SELECT 2")
    assert sent == [f"BEGIN; {path}; SELECT current_schema()", f"{path}; SELECT 2", f"{path}; COMMIT"]


# A transaction in which a statement failed, and nobody said so, is rolled back by its COMMIT.


def fail_silently() -> None:
    with suppress(DatabaseError):
        execute("SELECT 1 / 0")


def write_and_fail_silently(hooks: list[str]) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: hooks.append("ran"))
        Group.objects.create(name="a row")
        fail_silently()


def test_a_commit_that_postgresql_turns_into_a_rollback_raises_and_no_hook_runs(acme: Tenant) -> None:
    hooks: list[str] = []
    with schema_context(acme.schema_name):
        with pytest.raises(InternalError, match="COMMIT"):
            write_and_fail_silently(hooks)
        assert not Group.objects.exists()
    assert hooks == []


def test_after_such_a_commit_the_next_statement_runs_at_home(acme: Tenant, globex: Tenant) -> None:
    with schema_context(globex.schema_name):
        execute("SELECT 1")
    with schema_context(acme.schema_name):
        with pytest.raises(InternalError):
            write_and_fail_silently([])
        assert execute("SELECT current_schema()") == [(acme.schema_name,)]


def test_a_dispatch_does_not_survive_such_a_commit(acme: Tenant) -> None:
    @transaction.atomic
    def dispatch() -> None:
        probe.delay_on_commit("gone")
        execute("SELECT 1")
        fail_silently()

    with schema_context(acme.schema_name), pytest.raises(InternalError):
        dispatch()
    assert not Job.objects.exists()


@pytest.mark.parametrize("commit", ["COMMIT", "commit work", "  -- so\n/* it */ END", "COMMIT AND CHAIN"])
def test_a_commit_by_hand_raises_too(acme: Tenant, commit: str) -> None:
    with schema_context(acme.schema_name):
        execute("BEGIN")
        fail_silently()
        with pytest.raises(InternalError):
            execute(commit)
        assert execute("SELECT current_schema()") == [(acme.schema_name,)]
        connection.close()  # COMMIT AND CHAIN has begun another transaction


@pytest.mark.parametrize("rollback", ["ROLLBACK", "ABORT"])
def test_a_rollback_by_hand_is_no_error(rollback: str) -> None:
    execute("BEGIN")
    fail_silently()
    execute(rollback)
    assert execute("SELECT 1") == [(1,)]


def test_a_nested_block_undoes_the_failure_so_that_the_outer_one_commits(acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        with transaction.atomic():
            Group.objects.create(name="a row")
            with suppress(DatabaseError), transaction.atomic():
                execute("SELECT 1 / 0")
        assert Group.objects.count() == 1


def test_parameters_and_rows_are_those_of_the_statement(acme: Tenant) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT '%%', %s UNION ALL SELECT 'two', 'three'", ["%"])
        assert cursor.rowcount == 2
        assert len(cursor.description or ()) == 2
        assert cursor.fetchall() == [("%", "%"), ("two", "three")]


def test_outside_of_a_transaction_a_statement_and_its_path_are_one_message() -> None:
    with queries() as sent:
        execute("SELECT 1")
    assert sent == [f"{PUBLIC_PATH}; SELECT 1"]


def test_a_statement_that_shares_no_message_is_sent_alone(acme: Tenant) -> None:
    with schema_context(acme.schema_name), queries() as sent:
        execute("VACUUM auth_group")
    assert sent == [path_of(acme).replace("SET LOCAL", "SET"), "VACUUM auth_group", "RESET search_path"]


def test_a_shared_cursor_needs_no_path(acme: Tenant) -> None:
    unbind()
    with queries() as sent, connection.shared_cursor() as cursor:
        cursor.execute("SELECT FROM public.tenants_tenant")
    assert sent == ["SELECT FROM public.tenants_tenant"]


def test_an_empty_transaction_sends_nothing() -> None:
    with queries() as sent, transaction.atomic():
        pass
    assert sent == []


def test_a_first_statement_that_fails_leaves_no_path_and_no_transaction(acme: Tenant, globex: Tenant) -> None:
    with schema_context(acme.schema_name):
        with pytest.raises(ProgrammingError), transaction.atomic():
            execute("SELECT FROM nowhere")
        assert execute("SELECT current_schema()") == [(acme.schema_name,)]
    with schema_context(globex.schema_name):
        assert execute("SELECT current_schema()") == [(globex.schema_name,)]


def test_a_path_that_a_rollback_undid_is_set_again(acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        with transaction.atomic():
            execute("SELECT 1")
            transaction.set_rollback(True)
        assert execute("SELECT current_schema()") == [(acme.schema_name,)]


# The transaction of atomic() ends with the block. If a body could end it, what it writes next would be in another one.

REFUSED_ENDS: dict[str, Callable[[], object]] = {
    "COMMIT": lambda: execute("COMMIT"),
    "ROLLBACK": lambda: execute("/* so */ rollback"),
    "COMMIT AND CHAIN": lambda: execute("COMMIT AND CHAIN"),
    "END": lambda: connection.connection.execute("END"),
    "psycopg's commit()": lambda: connection.connection.commit(),
    "psycopg's rollback()": lambda: connection.connection.rollback(),
    "PREPARE TRANSACTION": lambda: execute("PREPARE TRANSACTION 'x'"),
    "COMMIT behind another statement": lambda: execute("SELECT 1; COMMIT"),
    "COMMIT and BEGIN": lambda: execute("SELECT 1; COMMIT; BEGIN"),
    "ROLLBACK and BEGIN": lambda: execute("SELECT 1; ROLLBACK; BEGIN"),
}
NOTICED_ENDS: dict[str, Callable[[], object]] = {
    "COMMIT by hand": lambda: psycopg.Cursor(connection.connection).execute("COMMIT"),
    "ROLLBACK by hand": lambda: psycopg.ClientCursor(connection.connection).execute("ROLLBACK"),
}


@pytest.mark.parametrize("end", REFUSED_ENDS)
def test_the_transaction_of_atomic_cannot_be_ended_inside_of_it(acme: Tenant, end: str) -> None:
    with schema_context(acme.schema_name):
        with transaction.atomic():
            Group.objects.create(name="one")
            with pytest.raises((ProgrammingError, psycopg.ProgrammingError), match="atomic"):
                REFUSED_ENDS[end]()
            Group.objects.create(name="two")
        assert written() == ["one", "two"]


@pytest.mark.parametrize("end", NOTICED_ENDS)
def test_where_it_is_all_the_same_what_comes_next_raises_and_no_hook_runs(acme: Tenant, end: str) -> None:
    hooks: list[str] = []

    @transaction.atomic
    def write(first: str, *names: str) -> None:
        transaction.on_commit(lambda: hooks.append("ran"))
        Group.objects.create(name=first)
        NOTICED_ENDS[end]()
        for name in names:
            Group.objects.create(name=name)

    with schema_context(acme.schema_name):
        with pytest.raises(TransactionManagementError, match="ended inside"):
            write("before", "after")
        with pytest.raises(InternalError, match="ended inside"):
            write("before, again")
        assert "after" not in written()
        Group.objects.create(name="the next one")
        assert "the next one" in written()
    assert hooks == []


@pytest.mark.parametrize("end", REFUSED_ENDS)
def test_a_job_cannot_end_its_transaction_early(acme: Tenant, end: str) -> None:
    def body(task: Any) -> None:
        Group.objects.create(name="before")
        REFUSED_ENDS[end]()

    bodies(body)
    with schema_context(acme.schema_name):
        job_id = atomic.delay_on_commit()
    deliver(job_id)
    with schema_context(acme.schema_name):
        assert written() == []
    assert "atomic()" in Job.objects.get().error


def test_a_savepoint_that_is_rolled_back_undoes_no_path(acme: Tenant, globex: Tenant) -> None:
    with transaction.atomic():
        execute("SELECT 1")
        with pytest.raises(DatabaseError), transaction.atomic(), schema_context(globex.schema_name):
            execute("SELECT FROM nowhere")
        with schema_context(acme.schema_name):
            assert execute("SELECT current_schema()") == [(acme.schema_name,)]


def test_a_body_of_many_rows_and_a_copy_are_in_the_transaction(acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO auth_group (name) VALUES (%s)", [("one",), ("two",)])
            transaction.set_rollback(True)
        with transaction.atomic():
            with connection.cursor() as cursor, cursor.copy("COPY auth_group (name) FROM STDIN") as copy:
                copy.write_row(("three",))
            transaction.set_rollback(True)
        assert not Group.objects.exists()


def test_a_server_side_cursor_is_in_the_transaction_and_may_lock(acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        Group.objects.create(name="one")
        with queries() as sent, transaction.atomic():
            assert [group.name for group in Group.objects.select_for_update().iterator()] == ["one"]
        assert sent[:2] == ["BEGIN", path_of(acme)]
        assert sent[-1] == f"{path_of(acme)}; COMMIT"
        assert [group.name for group in Group.objects.iterator()] == ["one"]


def test_a_session_that_commits_by_hand_begins_anew(acme: Tenant) -> None:
    transaction.set_autocommit(False)
    try:
        with queries() as sent:
            execute("SELECT 1")
            transaction.commit()
            execute("SELECT 2")
            with pytest.raises(ProgrammingError):
                transaction.set_autocommit(True)
            transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert sent[1:] == [f"{PUBLIC_PATH}; COMMIT", f"BEGIN; {PUBLIC_PATH}; SELECT 2", "ROLLBACK"]


def send_with_commit(name: str = "unsent") -> None:
    connection.send_with_commit("INSERT INTO public.auth_group (name) VALUES (%s)", [name])


INSERTED = "INSERT INTO public.auth_group (name) VALUES ('unsent')"


def written() -> list[str]:
    return list(Group.objects.order_by("id").values_list("name", flat=True))


def test_a_statement_goes_with_commit() -> None:
    with queries() as sent, transaction.atomic():
        execute("SELECT 1")
        send_with_commit()
    assert sent[1:] == [f"{INSERTED}; {PUBLIC_PATH}; COMMIT"]
    with queries() as sent, transaction.atomic():
        send_with_commit("100 %")
    assert sent == [f"BEGIN; INSERT INTO public.auth_group (name) VALUES ('100 %'); {PUBLIC_PATH}; COMMIT"]
    assert written() == ["unsent", "100 %"]


def test_one_that_fails_fails_the_commit() -> None:
    @transaction.atomic
    def write_twice() -> None:
        Group.objects.create(name="unsent")
        send_with_commit()

    with pytest.raises(IntegrityError):
        write_twice()
    assert written() == []


def test_after_an_error_that_nobody_told_django_of_commit_does_not_seem_to_succeed() -> None:
    @transaction.atomic
    def swallow() -> None:
        fail_silently()
        send_with_commit()

    with pytest.raises(InternalError, match="Nothing was committed"):
        swallow()
    assert written() == []


def test_what_a_lost_connection_raises_is_djangos() -> None:
    @transaction.atomic
    def lose() -> None:
        execute("SELECT 1")
        send_with_commit()
        connection.connection.close()

    with pytest.raises(OperationalError):
        lose()


@pytest.mark.parametrize("ends", [partial(transaction.set_rollback, True), lambda: connection.close(), lambda: 1 / 0])
def test_it_goes_with_no_other_transaction_than_its_own(ends: Callable[[], object]) -> None:
    with suppress(ZeroDivisionError, DatabaseError), transaction.atomic():
        send_with_commit()
        ends()
    with transaction.atomic():
        Group.objects.create(name="another")
    assert written() == ["another"]


def test_what_was_sent_is_not_sent_again_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """A soft time limit is raised anywhere: here after the COMMIT's reply."""

    class SoftLimit(Exception):
        pass

    def interrupt(connection: Connection, *reply: object) -> None:
        monkeypatch.undo()
        raise SoftLimit

    with suppress(SoftLimit), transaction.atomic():
        send_with_commit()
        monkeypatch.setattr(Connection, "check_commit", interrupt)
    with transaction.atomic():
        execute("SELECT 1")
    assert written() == ["unsent"]


def test_where_no_commit_follows_it_is_refused() -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            send_with_commit()


def test_in_a_nested_block_and_outside_of_transactions_it_is_sent_at_once() -> None:
    with transaction.atomic(), transaction.atomic():
        with queries() as sent:
            send_with_commit()
        assert sent == [INSERTED]
    with queries() as sent:
        send_with_commit("another")
    assert len(sent) == 1
    assert written() == ["unsent", "another"]


def test_to_ask_whether_the_connection_is_usable_sends_nothing_else() -> None:
    with queries() as sent:
        assert connection.is_usable()
    assert sent == ["SELECT 1"]


def test_a_connection_that_is_not_there_is_not_usable() -> None:
    connection.close()
    assert not connection.is_usable()


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("end", [transaction.commit, transaction.rollback])
def test_a_transaction_of_no_connection_ends_without_one(end: Callable[[], None]) -> None:
    connection.close()
    end()
    assert connection.connection is None
