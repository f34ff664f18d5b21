"""What a body leaves unfinished ends nothing of those who come after it, whoever collects it and wherever."""

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from multiprocessing import get_context
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pytest
from celery import shared_task
from django.contrib.auth.models import Group
from django.core.cache import cache, caches
from django.db import OperationalError, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite
from django.db.models import Func, TextField
from django.db.models.functions import Cast
from django.db.utils import Error
from django_tenants.utils import schema_context, tenant_context
from psycopg.rows import dict_row

from tenants.binding import bound_schema
from tenants.connection import connection
from tenants.models import Tenant
from tenants.wsgi import OwnContext
from tests.jobs.durables import atomic, groups, sql
from tests.jobs.probes import broker, probe
from tests.tenants.cursors import ALL_WRITES
from tests.tenants.observer import observing
from tests.tenants.test_clean_owners import as_request, as_task

pytestmark = pytest.mark.usefixtures("committed_db")


def as_served(tenant: Tenant, act: Callable[[], Any]) -> None:
    """As a request that a web server hands over."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        as_request(tenant, act)
        return []

    response = OwnContext(application)({}, lambda *head: None)
    list(response)
    response.close()


OWNERS = pytest.mark.parametrize("own", [as_served, as_task(atomic)], ids=["request", "job"])


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Garbage is collected where the test says so."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def abandon(generator: Iterator[Any]) -> None:
    """In a cycle, as a kept traceback is, so that it is collected some time, somewhere."""
    next(generator)
    cycle: list[Any] = [generator]
    cycle.append(cycle)


def in_schema_context(tenant: Tenant) -> Generator[int, None, None]:
    with schema_context(tenant.schema_name):
        yield Group.objects.count()


def in_tenant_context(tenant: Tenant) -> Generator[int, None, None]:
    with tenant_context(tenant):
        yield Group.objects.count()


def in_tenant(tenant: Tenant) -> Generator[int, None, None]:
    with tenant:
        yield Group.objects.count()


def in_atomic(tenant: Tenant) -> Generator[None, None, None]:
    with transaction.atomic():
        Group.objects.create(name=f"{tenant.slug}'s")
        yield


def in_iterator(tenant: Tenant) -> Generator[Any, None, None]:
    yield from Group.objects.iterator(chunk_size=1)


GENERATORS = pytest.mark.parametrize(
    "generator",
    [in_schema_context, in_tenant_context, in_tenant, in_atomic, in_iterator],
    ids=lambda each: each.__name__,
)


def two_in_atomic() -> None:
    with transaction.atomic():
        Group.objects.create(name="first")
        gc.collect()
        Group.objects.create(name="second")


def in_threads(*calls: Callable[[], Any]) -> None:
    """Each in a thread of its own, one after the other."""
    pools = [ThreadPoolExecutor(1) for _ in calls]
    for pool, call in zip(pools, calls, strict=True):
        pool.submit(call).result()
    for pool in pools:
        pool.submit(connections.close_all).result()
        pool.shutdown()


def groups_of(tenant: Tenant) -> list[str]:
    with observing() as observer:
        return observer.groups().get(tenant.schema_name, [])


@OWNERS
@GENERATORS
def test_a_generator_that_is_collected_in_the_next_owner(
    acme: Tenant, globex: Tenant, own: Any, generator: Any, no_gc: None
) -> None:
    with schema_context(acme.schema_name):
        Group.objects.bulk_create(Group(name=f"group {number}") for number in range(3))
    own(acme, lambda: abandon(generator(acme)))

    own(globex, two_in_atomic)

    assert groups_of(globex) == ["first", "second"]


@GENERATORS
def test_a_generator_that_is_collected_in_another_thread(
    acme: Tenant, globex: Tenant, generator: Any, no_gc: None
) -> None:
    with schema_context(acme.schema_name):
        Group.objects.bulk_create(Group(name=f"group {number}") for number in range(3))
    in_threads(
        lambda: as_served(acme, lambda: abandon(generator(acme))),
        lambda: as_served(globex, two_in_atomic),
    )
    assert groups_of(globex) == ["first", "second"]


def test_an_iterator_of_the_transaction_before(acme: Tenant, no_gc: None) -> None:
    def body() -> None:
        Group.objects.bulk_create(Group(name=f"group {number}") for number in range(3))
        with transaction.atomic():
            abandon(Group.objects.iterator(chunk_size=1))
        two_in_atomic()

    as_served(acme, body)
    assert groups_of(acme)[:2] == ["first", "group 0"]


def test_an_atomic_block_that_is_collected_inside_of_another_one_is_not_committed_by_half(
    acme: Tenant, no_gc: None
) -> None:
    def body() -> None:
        abandon(in_atomic(acme))
        with pytest.raises(Error):
            two_in_atomic()
        Group.objects.create(name="after")

    as_served(acme, body)
    assert groups_of(acme) == ["after"]


def rows_in_atomic(name: str) -> Generator[int, None, None]:
    with transaction.atomic():
        for number in range(2):
            Group.objects.create(name=f"{name} {number}")
            yield number


def in_step() -> None:
    """The first one runs to its end in the midst of the second one's block."""
    for _ in zip(rows_in_atomic("a"), rows_in_atomic("b"), strict=False):
        pass


def one_after_the_other() -> None:
    first, second = rows_in_atomic("a"), rows_in_atomic("b")
    next(first)
    next(second)
    list(first)


def with_an_error() -> None:
    first, second = rows_in_atomic("a"), rows_in_atomic("b")
    next(first)
    next(second)
    first.throw(transaction.TransactionManagementError)


def closed() -> None:
    first, second = rows_in_atomic("a"), rows_in_atomic("b")
    next(first)
    next(second)
    first.close()
    next(second)


@pytest.mark.parametrize("act", [in_step, one_after_the_other, with_an_error, closed], ids=lambda each: each.__name__)
@pytest.mark.parametrize("nested", [False, True], ids=["outermost", "nested"])
def test_an_atomic_block_that_is_left_before_one_inside_of_it_raises(acme: Tenant, act: Any, nested: bool) -> None:
    def around() -> None:
        with transaction.atomic():
            Group.objects.create(name="around")
            act()

    def body() -> None:
        with pytest.raises((Error, transaction.TransactionManagementError)):
            (around if nested else act)()
        assert not connection.in_atomic_block
        Group.objects.create(name="after")

    as_served(acme, body)
    assert groups_of(acme) == ["after"]


@pytest.fixture
def other_alias() -> Iterator[str]:
    """Another database, of another backend."""
    other = SQLite({**connection.settings_dict, "NAME": ":memory:", "OPTIONS": {}}, alias="other")
    connections["other"] = other
    yield "other"
    other.close()
    del connections["other"]


def test_another_backends_blocks_are_as_django_has_them(acme: Tenant, other_alias: str) -> None:
    other = connections[other_alias]
    with schema_context(acme.schema_name), transaction.atomic(using=other_alias), transaction.atomic():
        other.cursor().execute("CREATE TABLE kept (name text)")
        Group.objects.create(name="one")
    with suppress(ZeroDivisionError), transaction.atomic(using=other_alias):
        other.cursor().execute("INSERT INTO kept VALUES ('undone')")
        raise ZeroDivisionError
    assert other.cursor().execute("SELECT * FROM kept").fetchall() == []
    assert groups_of(acme) == ["one"]


def test_who_swallows_that_commits_nothing(acme: Tenant) -> None:
    @transaction.atomic
    def body() -> None:
        Group.objects.create(name="around")
        with suppress(transaction.TransactionManagementError):
            in_step()

    with schema_context(acme.schema_name), pytest.raises(OperationalError):
        body()
    assert groups_of(acme) == []


def first_of(schema: str, block: Callable[[], Any]) -> Any:
    """A row of a generator that has its own block, and is left in the midst of it."""
    with block():
        rows = rows_in(schema)
        return next(rows)


def kept_in(schema: str, block: Callable[[], Any], kept: list[Any]) -> None:
    with block():
        kept.append(rows_in(schema))
        next(kept[0])


def rows_in(schema: str) -> Generator[int, None, None]:
    with schema_context(schema):
        yield Group.objects.count()
        yield Group.objects.count()


@contextmanager
def by_a_context_manager(schema: str) -> Iterator[None]:
    with schema_context(schema):
        yield


def by_a_stack(schema: str) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(schema_context(schema))
    return stack


BLOCKS = pytest.mark.parametrize("block", [schema_context, by_a_context_manager, by_a_stack])


@BLOCKS
def test_a_block_restores_what_was_bound_whatever_is_unfinished_in_it(
    acme: Tenant, globex: Tenant, block: Callable[[str], Any]
) -> None:
    kept: list[Any] = []
    in_globex = partial(block, globex.schema_name)
    before = bound_schema()
    with schema_context(acme.schema_name):
        first_of("public", in_globex)
        assert bound_schema() == acme.schema_name
        with suppress(ZeroDivisionError), in_globex():
            kept_in("public", in_globex, kept)
            raise ZeroDivisionError
        assert bound_schema() == acme.schema_name
        list(kept.pop())
        assert bound_schema() == acme.schema_name
        for _ in zip(rows_in("public"), rows_in(globex.schema_name), strict=False):
            pass
        assert bound_schema() == acme.schema_name
    assert bound_schema() == before


@BLOCKS
def test_a_generator_that_ends_in_a_later_block_leaves_that_as_it_is(
    acme: Tenant, globex: Tenant, block: Callable[[str], Any]
) -> None:
    for finish in (list, lambda rows: rows.close()):
        with schema_context(acme.schema_name):
            rows = rows_in("public")
            next(rows)
            with block(globex.schema_name):
                finish(rows)
                assert bound_schema() == globex.schema_name
            assert bound_schema() == acme.schema_name


def test_an_eager_task_that_leaves_a_block_entered_leaves_its_caller_at_home(acme: Tenant, globex: Tenant) -> None:
    with schema_context(globex.schema_name):
        inner = enters.si()
    with schema_context(acme.schema_name):
        inner.apply()
        assert bound_schema() == acme.schema_name


@shared_task
def enters() -> None:
    schema_context("public").__enter__()


def test_a_finished_generator_restores_what_was_bound(acme: Tenant, globex: Tenant) -> None:
    for generator in (in_schema_context, in_tenant_context, in_tenant):
        with schema_context(acme.schema_name):
            assert list(generator(globex)) == [0]
            generator(globex).close()
            begun = generator(globex)
            next(begun)
            begun.close()
            assert connection.schema_name == acme.schema_name


@pytest.mark.parametrize("block", [schema_context, tenant_context])
def test_a_decorated_function_that_two_threads_are_in(acme: Tenant, globex: Tenant, block: Any) -> None:
    """Each leaves to where it came from."""
    came, left = [], []

    @block("public" if block is schema_context else Tenant(schema_name="public"))
    def visit(inner: Callable[[], None]) -> None:
        came.append(connection.schema_name)
        inner()

    def as_tenant(tenant: Tenant, inner: Callable[[], None]) -> None:
        with schema_context(tenant.schema_name):
            visit(inner)
            left.append(connection.schema_name)

    in_threads(lambda: as_tenant(acme, lambda: in_threads(lambda: as_tenant(globex, lambda: None))))

    assert (came, left) == (["public", "public"], [globex.schema_name, acme.schema_name])


def test_a_tenant_that_two_threads_have_entered(acme: Tenant, globex: Tenant) -> None:
    left = []

    def visit(home: Tenant, inner: Callable[[], None]) -> None:
        with schema_context(home.schema_name):
            with acme:
                inner()
            left.append(connection.schema_name)

    def beside(inner: Callable[[], None]) -> None:
        in_threads(inner)

    in_threads(lambda: visit(globex, lambda: beside(lambda: visit(acme, lambda: None))))
    assert left == [acme.schema_name, globex.schema_name]


def test_a_block_that_two_threads_have_entered(acme: Tenant, globex: Tenant) -> None:
    left, public = [], schema_context("public")

    def visit(home: Tenant, inner: Callable[[], None]) -> None:
        with schema_context(home.schema_name):
            with public, public:
                inner()
                assert connection.schema_name == "public"
            left.append(connection.schema_name)

    in_threads(lambda: visit(globex, lambda: in_threads(lambda: visit(acme, lambda: None))))
    assert left == [acme.schema_name, globex.schema_name]


def test_a_generator_that_is_collected_where_nothing_is_bound(acme: Tenant, no_gc: None) -> None:
    bound = []

    def unbound() -> None:
        gc.collect()
        bound.append(bound_schema())

    in_threads(lambda: as_served(acme, lambda: abandon(in_schema_context(acme))), unbound)
    assert bound == [None]


def test_what_follows_a_replaced_connection_is_told_of(acme: Tenant) -> None:
    @transaction.atomic
    def body() -> None:
        Group.objects.create(name="before")
        connection.connect()
        Group.objects.create(name="after")

    with schema_context(acme.schema_name), pytest.raises(transaction.TransactionManagementError, match="after it is"):
        body()
    assert groups_of(acme) == ["after"]


# COMMIT


@pytest.fixture
def audited(acme: Tenant, globex: Tenant) -> Iterator[Callable[[], list[list[str]]]]:
    """Both have a table, into which a deferred trigger of acme's writes. What it wrote, by tenant."""
    with observing() as observer:
        for tenant in (acme, globex):
            observer.execute(f'CREATE TABLE "{tenant.schema_name}".audit (text text)')
            observer.execute(f'GRANT ALL ON "{tenant.schema_name}".audit TO PUBLIC')
        observer.execute(f"""
            CREATE FUNCTION "{acme.schema_name}".audit_it() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO audit VALUES (new.name); RETURN NULL; END $$
        """)
        observer.execute(f"""
            CREATE CONSTRAINT TRIGGER audit_it AFTER INSERT ON "{acme.schema_name}".auth_group
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "{acme.schema_name}".audit_it()
        """)
        yield lambda: [
            [text for (text,) in observer.execute(f'SELECT text FROM "{tenant.schema_name}".audit')]
            for tenant in (acme, globex)
        ]
        observer.execute(f'DROP TRIGGER audit_it ON "{acme.schema_name}".auth_group')
        observer.execute(f'DROP FUNCTION "{acme.schema_name}".audit_it()')
        for tenant in (acme, globex):
            observer.execute(f'DROP TABLE "{tenant.schema_name}".audit')


def visit(tenant: Tenant) -> None:
    with schema_context(tenant.schema_name):
        Group.objects.count()


def set_path(tenant: Tenant) -> None:
    sql(f'SET LOCAL search_path = "{tenant.schema_name}"')


@OWNERS
@pytest.mark.parametrize("last", [visit, set_path])
@pytest.mark.parametrize("block", [transaction.atomic, lambda: connection.connection.transaction()])
def test_a_commit_runs_deferred_triggers_at_home(
    acme: Tenant, globex: Tenant, audited: Any, own: Any, last: Any, block: Any
) -> None:
    def body() -> None:
        connection.ensure_connection()
        with block():
            Group.objects.create(name="acme's")
            last(globex)

    own(acme, body)
    assert audited() == [["acme's"], []]


@OWNERS
@pytest.mark.parametrize("write", ALL_WRITES)
@pytest.mark.parametrize("first", ["a dispatch", "a write"])
def test_a_commit_runs_them_at_home_whoever_wrote(
    acme: Tenant, globex: Tenant, audited: Any, own: Any, write: str, first: str
) -> None:
    """A dispatch alone needs no path at its COMMIT. The session's leads away here."""

    def body() -> None:
        connection.ensure_connection()
        sql(f'SET search_path = "{globex.schema_name}"')
        acts: list[Callable[[], Any]] = [lambda: probe.delay_on_commit("one"), lambda: ALL_WRITES[write]("at home")]
        with transaction.atomic():
            probe.delay_on_commit("zero")
        with transaction.atomic():
            for act in acts if first == "a dispatch" else acts[::-1]:
                act()

    own(acme, body)
    assert audited() == [["at home"], []]


def test_a_commit_where_nothing_is_bound(acme: Tenant) -> None:
    with transaction.atomic(), schema_context(acme.schema_name):
        Group.objects.create(name="acme's")
    assert groups_of(acme) == ["acme's"]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "END"])
def test_an_end_by_executemany_is_refused(acme: Tenant, end: str) -> None:
    with suppress(Error), schema_context(acme.schema_name), transaction.atomic():
        Group.objects.create(name="before")
        probe.delay_on_commit("dispatched")
        with connection.cursor() as cursor:
            cursor.executemany(end, [()])
        Group.objects.create(name="after")
    with observing() as observer:
        assert (observer.groups(), observer.jobs()) == ({}, [])


@pytest.mark.parametrize("make", [psycopg.ClientCursor, psycopg.RawCursor], ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "end",
    [
        "COMMIT; BEGIN",
        "ROLLBACK; BEGIN",
        "END; START TRANSACTION",
        "ABORT; BEGIN; SAVEPOINT s",
        "COMMIT AND CHAIN",
        "ROLLBACK AND CHAIN",
        "/* a /* b */ */ SELECT 1; COMMIT; BEGIN; SELECT 2",
    ],
)
@pytest.mark.parametrize("then", ["a row", "nothing", "by hand"])
def test_an_end_by_hand_is_noticed(acme: Tenant, end: str, then: str, make: Any) -> None:
    """What comes next raises, or the block's end."""

    @transaction.atomic
    def body() -> None:
        Group.objects.create(name="before")
        make(connection.connection).execute(end)
        if then == "a row":
            Group.objects.create(name="after")
        elif then == "by hand":
            make(connection.connection).execute("INSERT INTO auth_group (name) VALUES ('after')")

    with schema_context(acme.schema_name), pytest.raises((Error, transaction.TransactionManagementError)):
        body()
    assert groups_of(acme) in ([], ["before"])


@pytest.mark.parametrize("end", ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN"])
@pytest.mark.parametrize("make", [psycopg.ClientCursor, psycopg.Cursor, psycopg.RawCursor])
def test_an_end_by_executemany_by_hand_is_noticed(acme: Tenant, end: str, make: Any) -> None:
    @transaction.atomic
    def body() -> None:
        Group.objects.create(name="before")
        make(connection.connection).executemany(end, [()])
        Group.objects.create(name="after")

    errors = (Error, psycopg.Error, transaction.TransactionManagementError)
    with schema_context(acme.schema_name), pytest.raises(errors):
        body()
    assert groups_of(acme) in ([], ["before"])


@OWNERS
def test_who_works_by_hand_ends_nothing(acme: Tenant, own: Any) -> None:
    def body() -> None:
        connection.ensure_connection()
        with transaction.atomic():
            for number in range(3):
                cursor = psycopg.ClientCursor(connection.connection)
                cursor.execute(f"SAVEPOINT s{number}")
                cursor.execute("INSERT INTO auth_group (name) VALUES (%s)", [f"by hand {number}"])
                Group.objects.create(name=f"by the ORM {number}")
                if number == 1:
                    cursor.execute("ROLLBACK TO s1")
            with suppress(ValueError), transaction.atomic():
                psycopg.ClientCursor(connection.connection).execute("INSERT INTO auth_group (name) VALUES ('undone')")
                raise ValueError

    own(acme, body)
    assert groups_of(acme) == ["by hand 0", "by hand 2", "by the ORM 0", "by the ORM 2"]


def test_who_works_by_hand_may_set_the_transaction_first(acme: Tenant) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        cursor = psycopg.ClientCursor(connection.connection)
        cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        assert cursor.execute("SHOW transaction_isolation").fetchall() == [("serializable",)]


@pytest.mark.parametrize(
    "lose",
    [connections.close_all, lambda: connection.close(), lambda: connection.connect()],
    ids=["all", "close", "connect"],
)
def test_a_block_that_lost_its_connection_raises(acme: Tenant, lose: Callable[[], None]) -> None:
    @transaction.atomic
    def body() -> None:
        Group.objects.create(name="before")
        lose()

    with schema_context(acme.schema_name), pytest.raises((OperationalError, transaction.TransactionManagementError)):
        body()
    assert groups_of(acme) == []


@OWNERS
@pytest.mark.parametrize("function", ["pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_lock_shared"])
def test_nobody_waits_for_a_lock_of_who_has_ended(acme: Tenant, own: Any, function: str) -> None:
    own(acme, lambda: sql(f"SELECT {function}(42)"))
    with observing() as observer:
        assert observer.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 42") == []


def lock_in_capitals() -> None:
    sql("SELECT PG_ADVISORY_LOCK(42)")


def lock_by_a_named_cursor() -> None:
    with transaction.atomic():
        Group.objects.exists()
        with connection.connection.cursor("named") as cursor:
            cursor.execute("SELECT pg_advisory_lock(42)").fetchall()


def lock_by_iterator() -> None:
    Group.objects.create(name="one")
    list(Group.objects.annotate(lock=Cast(Func(42, function="pg_advisory_lock"), TextField())).iterator())


@OWNERS
@pytest.mark.parametrize("lock", [lock_in_capitals, lock_by_a_named_cursor, lock_by_iterator])
def test_nobody_waits_for_a_lock_however_it_was_taken(acme: Tenant, own: Any, lock: Callable[[], None]) -> None:
    own(acme, lock)
    with observing() as observer:
        assert observer.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 42") == []


@pytest.mark.parametrize("listens", [True, False])
def test_nobody_hears_what_was_sent_to_who_has_ended(acme: Tenant, globex: Tenant, listens: bool) -> None:
    heard: list[str] = []

    def listen() -> None:
        sql("LISTEN acme")
        with observing() as observer:
            observer.execute("NOTIFY acme, 'a secret'")

    def hear() -> None:
        sql("LISTEN other" if listens else "SELECT 1")
        heard.extend(note.payload for note in connection.connection.notifies(timeout=0.2))

    as_served(acme, listen)
    as_served(globex, hear)
    assert heard == []


def close_in_a_thread(generator: Any) -> None:
    """As where a thread collects it, which has no use for what psycopg raises then."""

    def close() -> None:
        with suppress(psycopg.Error, RuntimeError):
            generator.close()

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()


@pytest.mark.parametrize("close", [lambda generator: generator.close(), close_in_a_thread], ids=["here", "in a thread"])
@pytest.mark.parametrize("listens", [True, False])
def test_nobody_hears_what_an_unfinished_generator_has_kept(
    acme: Tenant, globex: Tenant, listens: bool, close: Callable[[Any], None]
) -> None:
    kept: list[Any] = []
    heard: list[str] = []

    def listen() -> None:
        sql("LISTEN orders")
        for number in range(3):
            sql(f"NOTIFY orders, 'secret {number}'")
        kept.append(connection.connection.notifies(timeout=1))
        assert next(kept[0]).payload == "secret 0"

    def hear() -> None:
        if listens:
            sql("LISTEN orders; NOTIFY orders, 'own'")
        close(kept.pop())
        heard.extend(note.payload for note in connection.connection.notifies(timeout=0.2))

    as_served(acme, listen)
    as_served(globex, hear)
    assert heard == (["own"] if listens else [])


def test_who_stops_listening_for_a_while_hears_the_rest(acme: Tenant) -> None:
    heard: list[str] = []

    def listen() -> None:
        sql("LISTEN orders")
        for number in range(3):
            sql(f"NOTIFY orders, '{number}'")
        for _ in range(3):
            heard.extend(note.payload for note in connection.connection.notifies(timeout=1, stop_after=1))

    as_served(acme, listen)
    assert heard == ["0", "1", "2"]


def in_a_fork(act: Callable[[], Any]) -> str:
    """What came of it in a child of this process, which lives on with what it was given."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            told = repr(act())
        except BaseException as error:  # whatever it is, this child has to end here
            told = type(error).__name__
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


@OWNERS
def test_a_forked_child_has_a_session_of_its_own(acme: Tenant, own: Any) -> None:
    def session() -> int:
        return int(sql("SELECT pg_backend_pid()")[0][0])

    def body() -> None:
        mine = session()
        if not connection.in_atomic_block:
            sql("CREATE TEMP TABLE mine ()")
            theirs = in_a_fork(lambda: (session(), sql("SELECT to_regclass('pg_temp.mine')")))
            assert str(mine) not in theirs
            assert theirs.endswith("[(None,)])")
        with transaction.atomic():
            Group.objects.create(name="before")
            assert in_a_fork(lambda: Group.objects.create(name="a child's")) == "OperationalError"
            kept = connection.cursor()
            assert in_a_fork(lambda: kept.execute("SELECT 1")) == "OperationalError"
        assert session() == mine

    own(acme, body)
    assert groups_of(acme) == ["before"]


def test_a_forked_process_of_multiprocessing_commits_by_itself(acme: Tenant) -> None:
    def write(name: str) -> None:
        Group.objects.create(name=name)
        connections.close_all()

    def body() -> None:
        sql("CREATE TEMP TABLE mine ()")
        child = get_context("fork").Process(target=write, args=("a child's",))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert sql("SELECT FROM pg_temp.mine") == []

    as_served(acme, body)
    assert groups_of(acme) == ["a child's"]


def by_djangos_cursor() -> Callable[[str], Any]:
    return cast("Callable[[str], Any]", connection.cursor().execute)


def by_psycopgs_connection() -> Callable[[str], Any]:
    connection.ensure_connection()
    return cast("Callable[[str], Any]", connection.connection.execute)


def by_psycopgs_cursor_with_dictionaries() -> Callable[[str], Any]:
    connection.ensure_connection()
    return cast("Callable[[str], Any]", connection.connection.cursor(row_factory=dict_row).execute)


def by_a_cursor_made_by_hand() -> Callable[[str], Any]:
    connection.ensure_connection()
    return cast("Callable[[str], Any]", psycopg.ClientCursor(connection.connection).execute)


@OWNERS
@pytest.mark.parametrize(
    "keep",
    [by_djangos_cursor, by_psycopgs_connection, by_psycopgs_cursor_with_dictionaries, by_a_cursor_made_by_hand],
)
@pytest.mark.parametrize("block", [transaction.atomic, nullcontext])
def test_a_threads_kept_cursor_does_nothing_in_the_next_ones_session(
    acme: Tenant, globex: Tenant, own: Any, keep: Callable[[], Any], block: Any
) -> None:
    kept: list[Any] = []

    def late(context: Context | None) -> Any:
        def act() -> None:
            with schema_context(acme.schema_name):
                kept[0]("INSERT INTO auth_group (name) SELECT 'late'")

        return context.run(act) if context else act()

    def first() -> None:
        Group.objects.exists()
        kept.extend([keep(), copy_context()])

    def next_one() -> None:
        with block(), ThreadPoolExecutor(1) as thread:
            sql("CREATE TEMP TABLE mine ()")
            for context in (None, kept[1]):
                with pytest.raises((Error, psycopg.Error, transaction.TransactionManagementError)):
                    thread.submit(late, context).result()
            assert sql("SELECT FROM pg_temp.mine") == []
            Group.objects.create(name="mine")

    own(acme, first)
    own(globex, next_one)
    assert (groups_of(acme), groups_of(globex)) == ([], ["mine"])


@OWNERS
@pytest.mark.parametrize("make", [psycopg.ClientCursor, psycopg.RawCursor], ids=lambda each: each.__name__)
def test_nobody_waits_for_a_lock_that_was_taken_by_hand(acme: Tenant, own: Any, make: Any) -> None:
    @transaction.atomic
    def body() -> None:
        make(connection.connection).execute("SELECT pg_advisory_lock(42)")

    own(acme, body)
    with observing() as observer:
        assert observer.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 42") == []


def stream_by_django(kept: list[Any]) -> None:
    kept.append(connection.cursor().stream("SELECT generate_series(1, 100000)"))
    next(kept[0])


def stream_by_hand(kept: list[Any]) -> None:
    kept.append(psycopg.ClientCursor(connection.connection).stream("SELECT generate_series(1, 100000)"))
    next(kept[0])


def copy_out(kept: list[Any]) -> None:
    kept.append(connection.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT"))
    kept.append(iter(kept[0].__enter__()))
    next(kept[1])


def copy_in(kept: list[Any]) -> None:
    kept.append(connection.cursor().copy("COPY auth_group (name) FROM STDIN"))
    kept[0].__enter__().write_row(["half a copy"])


STREAMS = pytest.mark.parametrize(
    "stream", [stream_by_django, stream_by_hand, copy_out, copy_in], ids=lambda each: each.__name__
)


@STREAMS
@pytest.mark.parametrize(
    "then",
    [
        Group.objects.count,
        lambda: psycopg.ClientCursor(connection.connection).execute("SELECT 1"),
        lambda: connection.connection.execute("SELECT 1"),
        transaction.savepoint,
        lambda: next(connection.cursor().stream("SELECT 1")),
    ],
    ids=["the ORM", "by hand", "psycopg's execute", "a savepoint", "another stream"],
)
def test_a_statement_in_the_midst_of_a_stream_raises(acme: Tenant, stream: Any, then: Callable[[], Any]) -> None:
    kept: list[Any] = []

    @transaction.atomic
    def body() -> None:
        Group.objects.create(name="before")
        stream(kept)
        with pytest.raises((Error, psycopg.Error), match="unfinished"):
            then()
        raise ValueError

    with schema_context(acme.schema_name), suppress(ValueError):
        body()
    assert groups_of(acme) == []


@OWNERS
@STREAMS
def test_who_comes_after_an_unfinished_stream_finds_nothing_of_it(acme: Tenant, own: Any, stream: Any) -> None:
    kept: list[Any] = []

    def body() -> None:
        with suppress(Error), transaction.atomic():
            Group.objects.create(name="before")
            stream(kept)

    with suppress(Error):  # nothing of the job could be committed
        own(acme, body)
    own(acme, lambda: Group.objects.create(name="next"))
    assert groups_of(acme) == ["next"]
    kept.clear()
    own(acme, lambda: Group.objects.create(name="last"))
    assert groups_of(acme) == ["last", "next"]


# What is shared


def test_one_tenants_clear_leaves_the_others_alone(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            cache.set("k[*]", tenant.slug)
            cache.set("other", tenant.slug)
            cache.set("other", tenant.slug, version=2)
    caches["shared"].set("count", 1)
    broker().rpush("a-queue", "a message")

    with schema_context(acme.schema_name):
        cache.clear()
        assert cache.get_many(["k[*]", "other"]) == cache.get_many(["other"], version=2) == {}

    with schema_context(globex.schema_name):
        assert cache.get_many(["k[*]", "other"]) == {"k[*]": "globex", "other": "globex"}
        assert cache.get("other", version=2) == "globex"
    assert (caches["shared"].get("count"), broker().exists("a-queue")) == (1, 1)

    caches["shared"].clear()
    with schema_context(globex.schema_name):
        assert cache.get("other") == "globex"
    assert (caches["shared"].get("count"), broker().exists("a-queue")) == (None, 1)
    broker().delete("a-queue")


def test_an_async_generator_that_is_closed_restores_what_was_bound(acme: Tenant, globex: Tenant) -> None:
    async def names() -> Any:
        with schema_context(globex.schema_name):
            yield connection.schema_name

    async def first() -> tuple[str, str]:
        generator = names()
        name = await anext(generator)
        await generator.aclose()
        return name, connection.schema_name

    with schema_context(acme.schema_name):
        assert asyncio.run(first()) == (globex.schema_name, acme.schema_name)


@pytest.fixture
def way_past_a_pooler(committed_db: None) -> Iterator[None]:
    """As if this process reached its database through a pooler."""
    url = urlsplit(os.environ["DATABASE_URL"])
    configured = connections["default"].settings_dict
    way = {"HOST": url.hostname, "PORT": url.port or ""}
    connection.close()
    configured.update(DIRECT=way, DISABLE_SERVER_SIDE_CURSORS=True)
    yield
    connection.close()
    del configured["DIRECT"], configured["DISABLE_SERVER_SIDE_CURSORS"]


def directly() -> Iterator[None]:
    with connection.direct():
        yield


@OWNERS
@pytest.mark.usefixtures("way_past_a_pooler", "no_gc")
def test_a_way_past_the_pooler_that_was_left_unfinished_is_not_the_next_owners(
    acme: Tenant, globex: Tenant, own: Any
) -> None:
    def write() -> None:
        assert "DIRECT" in connection.settings_dict
        with transaction.atomic():
            Group.objects.create(name="before")
            gc.collect()
            Group.objects.create(name="after")

    own(acme, lambda: abandon(directly()))
    own(globex, write)
    assert "DIRECT" in connection.settings_dict
    assert groups(globex.schema_name) == ["after", "before"]


@OWNERS
@pytest.mark.usefixtures("way_past_a_pooler", "no_gc")
def test_nor_one_that_another_thread_collects(acme: Tenant, globex: Tenant, own: Any) -> None:
    own(acme, lambda: abandon(directly()))
    with ThreadPoolExecutor(1) as other:
        other.submit(gc.collect).result()
    own(globex, lambda: Group.objects.create(name="kept"))
    assert "DIRECT" in connection.settings_dict
    assert groups(globex.schema_name) == ["kept"]


@OWNERS
@pytest.mark.usefixtures("way_past_a_pooler")
def test_nor_that_of_a_helper_thread(acme: Tenant, globex: Tenant, own: Any) -> None:
    kept: list[Any] = []

    def leave() -> None:
        kept.append(directly())
        next(kept[0])
        sql("SELECT 1")

    with ThreadPoolExecutor(1) as pool:
        own(acme, lambda: pool.submit(copy_context().run, leave).result())
        own(globex, lambda: pool.submit(copy_context().run, sql, "SELECT 1").result())
        assert "DIRECT" in pool.submit(lambda: connection.settings_dict).result()
        pool.submit(kept.clear).result()
        pool.submit(lambda: connection.close()).result()


@pytest.mark.parametrize("begin", [lambda: sql("BEGIN"), lambda: connection.set_autocommit(False)])
@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_transaction_that_is_open_at_the_end_of_the_way_past_the_pooler_raises(
    acme: Tenant, begin: Callable[[], Any], is_pooled: bool, request: pytest.FixtureRequest
) -> None:
    if is_pooled:
        request.getfixturevalue("way_past_a_pooler")

    def write() -> None:
        with connection.direct():
            begin()
            Group.objects.create(name="lost")

    def view() -> None:
        with pytest.raises(transaction.TransactionManagementError, match="rolled back"):
            write()

    as_request(acme, view)
    assert groups(acme.schema_name) == []
    assert "DIRECT" in connection.settings_dict or not is_pooled


@OWNERS
@pytest.mark.usefixtures("no_gc")
def test_an_execute_wrapper_that_was_left_unfinished_ends_no_other(acme: Tenant, globex: Tenant, own: Any) -> None:
    seen: list[str] = []

    def listen(execute: Any, statement: str, *rest: Any) -> Any:
        seen.append(statement)
        return execute(statement, *rest)

    def wrapped() -> Iterator[None]:
        with connection.execute_wrapper(listen):
            yield

    def look() -> None:
        with connection.execute_wrapper(listen):
            gc.collect()
            sql("SELECT 'of globex'")

    own(acme, lambda: abandon(wrapped()))
    own(globex, look)
    assert seen.count("SELECT 'of globex'") == 1


@OWNERS
def test_a_block_that_an_alarm_tore_apart_is_not_the_next_owners(acme: Tenant, globex: Tenant, own: Any) -> None:
    """What a signal's handler raises may come between two lines of Django's, which then believes to be in no block."""

    def tear() -> None:
        atomic_block = transaction.atomic()
        atomic_block.__enter__()
        sql("SELECT 1")
        connection.atomic_blocks.clear()

    with suppress(IndexError, Error):
        own(acme, tear)
    own(globex, lambda: Group.objects.create(name="kept"))
    assert groups(globex.schema_name) == ["kept"]
