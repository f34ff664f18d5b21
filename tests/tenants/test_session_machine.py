"""A state machine: hypothesis binds, begins, writes, fails and leaves things behind, step by step, over two tenants.

After each step every row is in the schema that was bound when it was written, in no other, and there if and only if its
transaction committed. SESSION_MACHINE_EXAMPLES=2000 makes for a longer, random run.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django_tenants.utils import schema_context
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tenants.binding import Unbound, bound_schema, unbind
from tenants.connection import connection
from tenants.models import Tenant
from tenants.session import start_owner
from tests.jobs.durables import sql
from tests.jobs.probes import probe
from tests.tenants.cursors import ALL_WRITES, ERRORS, WRITES, WRITES_BY_HAND, by_hand, psycopg_cursor
from tests.tenants.observer import Groups, Observer, groups_in_session, observing
from tests.tenants.places import OTHER_THREADS, in_a_bare_thread

EXAMPLES = int(os.environ.get("SESSION_MACHINE_EXAMPLES", "0"))
# Only the innermost block may be aborted, and Django's ORM would then have to be told.
BY_ORM = {"the ORM"}
CURSORS_BY_HAND = [psycopg.ClientCursor, psycopg.RawCursor, psycopg.Cursor]
LEAVINGS = {
    "a temporary table": 'CREATE TEMP TABLE IF NOT EXISTS auth_group (LIKE "{away}".auth_group)',
    "a search path": 'SET search_path = "{away}"',
    "a search path of the transaction": 'SET LOCAL search_path = "{away}"',
    "a time limit": "SET statement_timeout = '1h'",
    "a prepared statement": "DEALLOCATE ALL; PREPARE kept AS SELECT name FROM auth_group",
    "an advisory lock": "SELECT pg_advisory_lock(42)",
}
LEFT = """
    SELECT to_regclass('pg_temp.auth_group') IS NOT NULL, current_setting('statement_timeout'),
        (SELECT count(*) FROM pg_prepared_statements),
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
"""

tenants = st.sampled_from([0, 1])
rarely = st.sampled_from([False] * 4 + [True])


class Undo(Exception):
    """Leaves a block, which rolls back."""


@dataclass
class Block:
    """A transaction or a savepoint, and what was written in it so far."""

    kind: str
    end: Callable[[bool], Any]
    groups: list[tuple[str, str]] = field(default_factory=list)
    jobs: list[tuple[str, str]] = field(default_factory=list)
    #: A statement failed, and nobody said so
    aborted: bool = False


def leave(block: AbstractContextManager[Any], commits: bool) -> None:
    if commits:
        block.__exit__(None, None, None)
    else:
        block.__exit__(Undo, Undo(), None)


def enter(kind: str, name: str) -> Callable[[bool], Any]:
    """Begin a block; what ends it."""
    match kind:
        case "atomic":
            block: AbstractContextManager[Any] = transaction.atomic()
            block.__enter__()
            return partial(leave, block)
        case "psycopg's":
            block = connection.connection.transaction()
            block.__enter__()
            return partial(leave, block)
        case "a savepoint of Django's":
            savepoint = transaction.savepoint()
            ends = {True: transaction.savepoint_commit, False: transaction.savepoint_rollback}
            return lambda commits: ends[commits](savepoint)
        case "BEGIN":
            sql("BEGIN")
            return lambda commits: psycopg_cursor().execute("COMMIT" if commits else "ROLLBACK")
        case _:
            sql(f"SAVEPOINT {name}")
            end = {True: f"RELEASE SAVEPOINT {name}", False: f"ROLLBACK TO SAVEPOINT {name}"}
            return lambda commits: psycopg_cursor().execute(end[commits])


class Session(RuleBasedStateMachine):
    """One thread and its database session."""

    committed_rows: ClassVar[int] = 0
    refused_rows: ClassVar[int] = 0

    def __init__(self, observer: Observer, schemas: list[str]) -> None:
        super().__init__()
        self.observer = observer
        self.schemas = schemas
        self.bound: str | None = None
        self.blocks: list[Block] = []
        self.groups: list[tuple[str, str]] = []
        self.jobs: list[tuple[str, str]] = []
        self.count = 0
        self.wrote = False
        for schema in schemas:
            observer.execute(f'DELETE FROM "{schema}".auth_group')
        observer.execute("DELETE FROM public.jobs_job")
        connection.close()
        start_owner()  # without one, a block of schema_context is the owner of what is begun in it
        connection.ensure_connection()

    # What is bound

    @initialize(where=tenants)
    def start_bound(self, where: int) -> None:
        self.bind(where)

    @rule(where=tenants)
    def bind(self, where: int) -> None:
        self.bound = self.schemas[where]
        connection.set_schema(self.bound)

    @rule(really=rarely)
    def unbind(self, really: bool) -> None:
        if really:
            self.bound = None
            unbind()

    @precondition(lambda self: all(block.kind in ("BEGIN", "a savepoint") for block in self.blocks))
    @rule(really=rarely, looks=st.booleans(), where=tenants)
    def change_owner(self, really: bool, looks: bool, where: int) -> None:
        if not really:
            return
        start_owner()
        self.blocks.clear()
        self.bound = None
        if looks:
            with pytest.raises(Unbound):
                sql("SELECT 1")
            with schema_context(self.schemas[where]):
                assert sql(LEFT) == [(False, "0", 0, 0)]

    # Transactions

    @precondition(lambda self: not self.aborted and len(self.blocks) < 4)
    @rule(kind=st.sampled_from(["atomic", "atomic", "psycopg's", "a savepoint of Django's", "by hand"]), where=tenants)
    def begin(self, kind: str, where: int) -> None:
        if kind == "by hand":
            kind = "a savepoint" if self.blocks else "BEGIN"
        in_atomic = bool(self.blocks) and self.blocks[0].kind == "atomic"
        if kind == "a savepoint of Django's" and not in_atomic:
            kind = "psycopg's"
        if kind == "atomic" and self.blocks and not in_atomic:
            kind = "a savepoint"  # Django can't be in a transaction that it has not begun

        self.count += 1
        with schema_context(self.bound or self.schemas[where]):
            end = enter(kind, f"number_{self.count}")
        self.blocks.append(Block(kind, end))

    @precondition(lambda self: self.blocks)
    @rule(commits=st.sampled_from([True, True, False]), where=tenants)
    def end(self, commits: bool, where: int) -> None:
        """While nothing is bound, a savepoint's end by hand is a query like any other."""
        with schema_context(self.bound or self.schemas[where]):
            self.end_innermost(commits)

    def end_innermost(self, commits: bool) -> None:
        block = self.blocks.pop()
        by_hand = block.kind.startswith("a savepoint")
        if block.aborted and by_hand:
            commits = False
        if not block.aborted:
            block.end(commits)
        elif commits and not self.blocks:
            with pytest.raises(ERRORS):
                block.end(True)
        else:
            with suppress(*ERRORS):
                block.end(commits)
            # psycopg's does not roll back when its RELEASE fails.
            if commits and block.kind == "psycopg's":
                self.blocks[-1].aborted = True
        if commits and not block.aborted:
            groups, jobs = (self.blocks[-1].groups, self.blocks[-1].jobs) if self.blocks else (self.groups, self.jobs)
            groups += block.groups
            jobs += block.jobs
            Session.committed_rows += 0 if self.blocks else len(block.groups) + len(block.jobs)

    @property
    def aborted(self) -> bool:
        return bool(self.blocks) and self.blocks[-1].aborted

    # Writes

    @rule(cursor=st.sampled_from(sorted(ALL_WRITES)), elsewhere=rarely, where=tenants)
    def write(self, cursor: str, elsewhere: bool, where: int) -> None:
        if cursor in BY_ORM and (self.aborted or (self.blocks and not self.bound)):
            return  # Django would roll the block back
        works = not self.aborted and (bool(self.blocks) or cursor not in WRITES_BY_HAND)
        if elsewhere:
            schema = self.schemas[where]
            with schema_context(schema):
                self.write_a_group(ALL_WRITES[cursor], schema, works)
        else:
            self.write_a_group(ALL_WRITES[cursor], self.bound, works)

    @precondition(lambda self: self.bound and not self.aborted)
    @rule(cursors=st.lists(st.sampled_from(sorted(WRITES)), min_size=1, max_size=3), handmade=st.booleans())
    def write_some(self, cursors: list[str], handmade: bool) -> None:
        for cursor in cursors:
            self.write(cursor, elsewhere=False, where=0)
        if handmade and self.blocks:
            self.write("a Cursor", elsewhere=False, where=0)

    def write_a_group(self, write: Callable[[str], Any], schema: str | None, works: bool) -> None:
        name = self.next_name()
        if works and schema:
            write(name)
            self.note(schema, name)
        else:
            with pytest.raises((Unbound, *ERRORS)):
                write(name)
            Session.refused_rows += 1

    def next_name(self) -> str:
        self.count += 1
        return f"row {self.count}"

    def note(self, schema: str, name: str) -> None:
        if self.blocks:
            self.blocks[-1].groups.append((schema, name))
        else:
            self.groups.append((schema, name))
            Session.committed_rows += 1
        self.wrote = True

    @rule()
    def dispatch(self) -> None:
        name = self.next_name()
        if self.bound and not self.aborted:
            probe.delay_on_commit(name)
            (self.blocks[-1].jobs if self.blocks else self.jobs).append((self.bound, f'["{name}"]'))
        else:
            with pytest.raises((Unbound, *ERRORS)):
                probe.delay_on_commit(name)

    @precondition(lambda self: not self.aborted and (self.bound or not self.blocks))
    @rule()
    def write_in_a_coroutine(self) -> None:
        @async_to_sync
        async def write(name: str) -> None:
            await Group.objects.acreate(name=name)

        self.write_a_group(write, self.bound, works=True)

    @rule(place=st.sampled_from(OTHER_THREADS))
    def write_in_another_thread(self, place: Callable[[Callable[[], Any]], Any]) -> None:
        """With this context."""
        name = self.next_name()
        write = partial(Group.objects.create, name=name)
        if not self.bound or self.blocks:
            refusal = TransactionManagementError if self.bound else (Unbound, TransactionManagementError)
            with pytest.raises(refusal):
                place(write)
        else:
            place(write)
            self.note(self.bound, name)

    @rule(binds=st.booleans(), where=tenants)
    def write_in_a_bare_thread(self, binds: bool, where: int) -> None:
        name = self.next_name()
        schema = self.schemas[where]

        def write() -> None:
            with schema_context(schema):
                Group.objects.create(name=name)

        if binds:
            in_a_bare_thread(write)
            self.groups.append((schema, name))
        else:
            with pytest.raises(Unbound):
                in_a_bare_thread(partial(Group.objects.create, name=name))

    # Accidents

    @precondition(lambda self: self.bound and not self.aborted)
    @rule(swallowed=st.booleans(), handmade=st.booleans())
    def fail(self, swallowed: bool, handmade: bool) -> None:
        """A statement does; its error leaves the innermost block, unless it is swallowed."""
        execute = by_hand(psycopg.ClientCursor).execute if handmade else sql
        with pytest.raises(ERRORS):
            execute("SELECT 1 / 0")
        if self.blocks:
            self.blocks[-1].aborted = True
            if not swallowed:
                self.end_innermost(commits=False)

    @precondition(lambda self: self.bound and self.blocks and self.blocks[0].kind == "atomic" and not self.aborted)
    @rule(really=rarely, commits=st.booleans(), chained=st.booleans(), cursor=st.sampled_from(CURSORS_BY_HAND))
    def end_by_hand(self, really: bool, commits: bool, chained: bool, cursor: Any) -> None:
        """Unseen at first, for nobody sees this cursor's text."""
        if not really:
            return
        sql("SELECT 1")  # the block's first statement could do so unnoticed
        end = "COMMIT" if commits else "ROLLBACK"
        by_hand(cursor).execute(f"{end} AND CHAIN" if chained else f"{end}; BEGIN")
        if commits:
            for block in self.blocks:
                self.groups += block.groups
                self.jobs += block.jobs
        with pytest.raises((TransactionManagementError, *ERRORS)):
            sql("SELECT 1")
        block = self.blocks[0]
        self.blocks[:] = self.blocks[1:]
        self.unwind()
        with pytest.raises(ERRORS):
            block.end(True)
        connection.ensure_connection()

    @precondition(lambda self: self.bound and not self.aborted)
    @rule(what=st.sampled_from(sorted(LEAVINGS)))
    def leave_behind(self, what: str) -> None:
        away = self.schemas[self.bound == self.schemas[0]]
        sql(LEAVINGS[what].format(away=away))

    @rule(really=rarely, where=tenants)
    def lose_the_connection(self, really: bool, where: int) -> None:
        if not really or connection.connection is None:
            return
        self.observer.terminate(connection.connection.info.backend_pid)
        with schema_context(self.schemas[where]), pytest.raises(ERRORS):
            sql("SELECT 1")
        self.unwind()
        connection.close()
        connection.ensure_connection()

    def unwind(self) -> None:
        while self.blocks:
            block = self.blocks.pop()
            if not block.kind.startswith("a savepoint"):
                with suppress(*ERRORS):
                    block.end(False)

    # What holds

    @invariant()
    def what_is_bound_is_bound(self) -> None:
        assert bound_schema() == self.bound

    @invariant()
    def each_row_is_at_home_if_it_was_committed(self) -> None:
        assert self.observer.groups() == by_schema(self.groups)
        assert sorted(self.observer.jobs()) == sorted(self.jobs)

    @invariant()
    def each_row_is_at_home_in_its_transaction(self) -> None:
        """Asked only after a write, for the question would begin the transaction."""
        if self.wrote and self.blocks and not self.aborted:
            written = self.groups + [group for block in self.blocks for group in block.groups]
            with schema_context(self.bound or self.schemas[0]):
                assert groups_in_session() == by_schema(written)
        self.wrote = False

    def teardown(self) -> None:
        with schema_context(self.schemas[0]):
            self.unwind()
        connection.close()
        unbind()


def by_schema(rows: list[tuple[str, str]]) -> Groups:
    groups: Groups = {}
    for schema, name in sorted(rows, key=lambda row: row[1]):
        groups.setdefault(schema, []).append(name)
    return groups


@pytest.fixture
def observer(committed_db: None) -> Iterator[Observer]:
    with observing() as observer:
        yield observer
    connection.close()


def test_every_row_is_at_home_whatever_happens(observer: Observer, acme: Tenant, globex: Tenant) -> None:
    profile = settings(
        max_examples=EXAMPLES or 100,
        derandomize=not EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    machine: Any = partial(Session, observer, [acme.schema_name, globex.schema_name])

    # An owner begins in it, and this process has other tests.
    copy_context().run(run_state_machine_as_test, machine, settings=profile)

    assert Session.committed_rows > profile.max_examples
    assert Session.refused_rows > profile.max_examples / 4
