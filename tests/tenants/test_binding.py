"""Who works for which tenant: threads, coroutines, contexts and dispatches; and what raises where nothing is bound."""

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Barrier, Thread
from typing import Any
from unittest.mock import MagicMock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from django.db.transaction import TransactionManagementError
from django_tenants.utils import schema_context, tenant_context

from devstack.processes import wait_until
from jobs.message import HEADER
from tenants.binding import Unbound, bound_schema, unbind
from tenants.connection import connection
from tenants.models import Tenant
from tenants.session import separate_transaction
from tests.jobs.durables import sql
from tests.jobs.probes import probe
from tests.people import at_once
from tests.tenants.observer import Observer
from tests.tenants.places import HEIRS, OTHER_THREADS, Deed, by_to_thread, in_a_bare_thread
from tests.wire import queries

pytestmark = pytest.mark.usefixtures("own_session")


class Undo(Exception):
    """Rolls a transaction back."""


def write() -> None:
    Group.objects.create(name="a row")


def delay() -> str:
    """The schema that the message of a plain task names."""
    producer = MagicMock()
    probe.apply_async(("plain",), producer=producer)
    return str(producer.publish.call_args.kwargs["headers"][HEADER]["schema"])


QUERIES: dict[str, Deed] = {
    "the ORM": write,
    "a cursor": lambda: sql("SELECT 1"),
    "a transaction": transaction.atomic(lambda: sql("SELECT 1")),
    "a server-side cursor": lambda: list(Group.objects.iterator()),
    "psycopg's cursor": lambda: connection.connection.execute("SELECT 1"),
}
DISPATCHES: dict[str, Deed] = {
    "delay_on_commit": lambda: probe.delay_on_commit("durable"),
    "apply_async_on_commit": lambda: probe.apply_async_on_commit(("durable",)),
    "map_on_commit": lambda: probe.map_on_commit([("durable",)]),
}
PLAIN_DISPATCHES: dict[str, Deed] = {
    "delay": lambda: probe.delay("plain"),
    "apply_async": lambda: probe.apply_async(("plain",)),
    "a signature": lambda: probe.s("plain").delay(),
    "a group": lambda: (probe.s("plain") | probe.s()).delay(),
}
ASKS: dict[str, Deed] = {"connection.schema_name": lambda: connection.schema_name}
DEEDS = QUERIES | DISPATCHES | PLAIN_DISPATCHES | ASKS


# Nothing is bound


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("place", [in_a_bare_thread, *HEIRS])
def test_where_nothing_is_bound_it_raises_and_names_the_remedy(place: Callable[[Deed], Any], deed: str) -> None:
    connection.ensure_connection()
    unbind()
    with pytest.raises(Unbound, match="schema_context"):
        place(DEEDS[deed])


@pytest.mark.parametrize("deed", DEEDS)
def test_a_bare_thread_is_bound_to_nothing(acme: Tenant, observer: Observer, deed: str) -> None:
    with schema_context(acme.schema_name), pytest.raises(Unbound):
        in_a_bare_thread(DEEDS[deed])

    assert observer.groups() == {}
    assert observer.jobs() == []


@pytest.mark.parametrize("deed", [*QUERIES, *DISPATCHES])
def test_what_raised_unbound_works_once_something_is_bound(acme: Tenant, deed: str) -> None:
    connection.ensure_connection()
    unbind()
    with pytest.raises(Unbound):
        DEEDS[deed]()

    with schema_context(acme.schema_name):
        DEEDS[deed]()


def test_nothing_is_sent_where_nothing_is_bound() -> None:
    unbind()
    with queries() as sent, pytest.raises(Unbound):
        sql("SELECT 1")
    assert sent == []


def test_to_unbind_inside_a_transaction_lets_it_end(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        write()
        unbind()
        with pytest.raises(Unbound):
            sql("SELECT 1")

    assert observer.groups() == {acme.schema_name: ["a row"]}


def test_a_connection_binds_nothing() -> None:
    unbind()
    connection.close()
    connection.ensure_connection()
    assert bound_schema() is None


def test_the_connection_of_a_new_thread_binds_nothing() -> None:
    def connect() -> str | None:
        connections["default"].ensure_connection()
        return bound_schema()

    assert in_a_bare_thread(connect) is None


def test_a_connection_binds_nothing_else_than_what_is_bound(acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        connection.close()
        connection.ensure_connection()
        assert bound_schema() == acme.schema_name


# Contexts


@pytest.mark.parametrize("enter", [lambda tenant: schema_context(tenant.schema_name), tenant_context])
def test_leaving_a_context_restores_what_was_there(
    acme: Tenant, globex: Tenant, enter: Callable[[Tenant], AbstractContextManager[Any]]
) -> None:
    unbind()
    with enter(acme):
        assert bound_schema() == connection.schema_name == acme.schema_name
        with suppress(Undo), enter(globex):
            assert sql("SELECT current_schema()") == [(globex.schema_name,)]
            raise Undo
        assert sql("SELECT current_schema()") == [(acme.schema_name,)]
        with enter(globex):
            unbind()
        assert bound_schema() == acme.schema_name
    assert bound_schema() is None


def test_a_context_restores_public(acme: Tenant) -> None:
    connection.set_schema_to_public()
    with schema_context(acme.schema_name):
        pass
    assert sql("SELECT current_schema()") == [("public",)]


def test_a_context_as_a_decorator_restores_nothing_bound(acme: Tenant) -> None:
    @schema_context(acme.schema_name)
    def ask() -> str | None:
        return bound_schema()

    unbind()
    assert ask() == acme.schema_name
    assert bound_schema() is None


@pytest.mark.parametrize(
    "bind", [lambda tenant: connection.set_tenant(tenant), lambda tenant: connection.set_schema(tenant.schema_name)]
)
def test_the_connections_methods_bind(acme: Tenant, bind: Callable[[Tenant], None]) -> None:
    unbind()
    bind(acme)
    assert bound_schema() == acme.schema_name
    assert sql("SELECT current_schema()") == [(acme.schema_name,)]

    connection.set_schema_to_public()
    assert bound_schema() == "public"
    assert sql("SELECT current_schema()") == [("public",)]


def test_what_is_bound_in_another_context_is_not_bound_in_this_one(acme: Tenant, globex: Tenant) -> None:
    with schema_context(acme.schema_name):
        contextvars.copy_context().run(connection.set_schema, globex.schema_name)
        assert sql("SELECT current_schema()") == [(acme.schema_name,)]


def test_a_command_runs_in_the_schema_that_is_bound(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name):
        call_command(
            "shell", command="from django.contrib.auth.models import Group; Group.objects.create(name='a row')"
        )
        assert bound_schema() == acme.schema_name

    assert observer.groups() == {acme.schema_name: ["a row"]}


# Threads and coroutines


def test_a_thread_that_binds_is_at_home(acme: Tenant, globex: Tenant, observer: Observer) -> None:
    def write_in(tenant: Tenant) -> Deed:
        def run() -> None:
            with schema_context(tenant.schema_name):
                write()
                probe.delay_on_commit(tenant.slug)

        return run

    with schema_context(globex.schema_name):
        in_a_bare_thread(write_in(acme))
        assert bound_schema() == globex.schema_name

    assert observer.groups() == {acme.schema_name: ["a row"]}
    assert observer.jobs() == [(acme.schema_name, '["acme"]')]


@pytest.mark.parametrize("place", HEIRS)
def test_the_tenant_is_inherited(acme: Tenant, observer: Observer, place: Callable[[Deed], Any]) -> None:
    with schema_context(acme.schema_name):
        place(write)
        place(lambda: probe.delay_on_commit("durable"))
        assert place(delay) == acme.schema_name
        assert place(lambda: connection.schema_name) == acme.schema_name

    assert observer.groups() == {acme.schema_name: ["a row"]}
    assert observer.jobs() == [(acme.schema_name, '["durable"]')]


def test_djangos_asynchronous_orm_is_at_home(acme: Tenant, observer: Observer) -> None:
    async def work() -> list[str]:
        await Group.objects.acreate(name="a row")
        names = [group.name async for group in Group.objects.all()]
        await sync_to_async(lambda: connection.close())()
        return names

    with schema_context(acme.schema_name):
        assert asyncio.run(work()) == ["a row"]
    assert observer.groups() == {acme.schema_name: ["a row"]}


def test_coroutines_of_two_tenants_that_take_turns_stay_at_home(
    acme: Tenant, globex: Tenant, observer: Observer
) -> None:
    async def work(tenant: Tenant, turn: asyncio.Barrier) -> None:
        with schema_context(tenant.schema_name):
            for number in range(3):
                await turn.wait()
                await Group.objects.acreate(name=f"{tenant.slug} {number}")
                await turn.wait()
                assert connection.schema_name == tenant.schema_name
                assert await Group.objects.acount() == number + 1

    async def work_by_turns() -> None:
        turn = asyncio.Barrier(2)
        await asyncio.gather(work(acme, turn), work(globex, turn))
        await sync_to_async(lambda: connection.close())()

    asyncio.run(work_by_turns())

    for tenant in (acme, globex):
        assert observer.groups()[tenant.schema_name] == [f"{tenant.slug} {number}" for number in range(3)]


def test_what_a_coroutine_binds_ends_with_it(acme: Tenant, globex: Tenant) -> None:
    async def bind() -> None:
        connection.set_schema(globex.schema_name)

    with schema_context(acme.schema_name):
        asyncio.run(bind())
        assert bound_schema() == acme.schema_name


def test_async_to_sync_is_in_the_transaction(acme: Tenant, observer: Observer) -> None:
    async def work() -> None:
        await Group.objects.acreate(name="a row")
        await sync_to_async(probe.delay_on_commit)("durable")

    with schema_context(acme.schema_name):
        with transaction.atomic():
            async_to_sync(work)()
            assert observer.groups() == {}
            transaction.set_rollback(True)
        assert observer.groups() == {}
        assert observer.jobs() == []

        with transaction.atomic():
            async_to_sync(work)()
    assert observer.groups() == {acme.schema_name: ["a row"]}
    assert observer.jobs() == [(acme.schema_name, '["durable"]')]


# A transaction belongs to one connection


@contextmanager
def atomic_before_a_statement() -> Iterator[None]:
    with transaction.atomic():
        yield


@contextmanager
def atomic_after_a_statement() -> Iterator[None]:
    with transaction.atomic():
        sql("SELECT 1")
        yield


@contextmanager
def psycopgs_transaction() -> Iterator[None]:
    with connection.connection.transaction():
        yield


@contextmanager
def begin_by_hand() -> Iterator[None]:
    sql("BEGIN")
    yield
    sql("ROLLBACK")


@contextmanager
def no_autocommit() -> Iterator[None]:
    transaction.set_autocommit(False)
    sql("SELECT 1")
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


OPENERS = [
    atomic_before_a_statement,
    atomic_after_a_statement,
    psycopgs_transaction,
    begin_by_hand,
    no_autocommit,
]
REFUSED = QUERIES | DISPATCHES


@pytest.mark.parametrize("open_transaction", OPENERS)
@pytest.mark.parametrize("deed", REFUSED)
@pytest.mark.parametrize("place", OTHER_THREADS)
def test_another_connection_raises_while_a_transaction_is_open(
    acme: Tenant,
    observer: Observer,
    place: Callable[[Deed], Any],
    deed: str,
    open_transaction: Callable[[], AbstractContextManager[None]],
) -> None:
    connection.ensure_connection()
    with schema_context(acme.schema_name), open_transaction():
        with pytest.raises(TransactionManagementError, match="async_to_sync") as raised:
            place(REFUSED[deed])
        assert "separate_transaction()" in str(raised.value)
        assert observer.groups() == {}
        assert observer.jobs() == []
        sql("SELECT 1")


@pytest.mark.parametrize("place", OTHER_THREADS)
def test_a_separate_transaction_is_committed_by_itself(
    acme: Tenant, observer: Observer, place: Callable[[Deed], Any]
) -> None:
    def write_separately() -> None:
        with separate_transaction():
            Group.objects.create(name="separate")
            probe.delay_on_commit("separate")

    with schema_context(acme.schema_name), transaction.atomic():
        Group.objects.create(name="undone")
        place(write_separately)
        with pytest.raises(TransactionManagementError):
            place(write)
        transaction.set_rollback(True)

    assert observer.groups() == {acme.schema_name: ["separate"]}
    assert observer.jobs() == [(acme.schema_name, '["separate"]')]


def test_a_separate_transaction_can_be_entered_by_the_caller(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        Group.objects.create(name="undone")
        with separate_transaction():
            by_to_thread(write)
        with pytest.raises(TransactionManagementError):
            by_to_thread(write)
        transaction.set_rollback(True)

    assert observer.groups() == {acme.schema_name: ["a row"]}


@pytest.mark.parametrize("deed", REFUSED)
def test_a_separate_transaction_is_not_on_the_connection_of_the_other(
    acme: Tenant, observer: Observer, deed: str
) -> None:
    connection.ensure_connection()
    with schema_context(acme.schema_name), transaction.atomic():
        Group.objects.create(name="kept")
        with (
            separate_transaction(),
            pytest.raises(TransactionManagementError, match="this one has the transaction open"),
        ):
            REFUSED[deed]()
        with separate_transaction(), separate_transaction(), pytest.raises(TransactionManagementError):
            REFUSED[deed]()

    # The ORM's own block inside of this one has told Django to roll it back.
    assert observer.groups() == ({} if deed == "the ORM" else {acme.schema_name: ["kept"]})
    assert observer.jobs() == []


@pytest.mark.parametrize("open_transaction", OPENERS)
@pytest.mark.parametrize("place", OTHER_THREADS)
def test_another_connection_works_when_the_transaction_is_over(
    acme: Tenant,
    observer: Observer,
    place: Callable[[Deed], Any],
    open_transaction: Callable[[], AbstractContextManager[None]],
) -> None:
    connection.ensure_connection()
    with schema_context(acme.schema_name):
        with open_transaction():
            sql("SELECT 1")
            context = contextvars.copy_context()
        place(write)
        context.run(place, lambda: probe.delay_on_commit("durable"))

    assert observer.groups() == {acme.schema_name: ["a row"]}
    assert observer.jobs() == [(acme.schema_name, '["durable"]')]


@pytest.mark.parametrize("end", [lambda: connection.close(), lambda: 1 / 0])
def test_a_transaction_that_ended_badly_is_over(acme: Tenant, observer: Observer, end: Deed) -> None:
    with schema_context(acme.schema_name):
        with suppress(ZeroDivisionError, OperationalError), transaction.atomic():
            sql("SELECT 1")
            end()
        by_to_thread(write)

    assert observer.groups() == {acme.schema_name: ["a row"]}


def test_a_thread_with_a_context_of_its_own_has_a_transaction_of_its_own(acme: Tenant, observer: Observer) -> None:
    def write_at_home() -> None:
        with schema_context(acme.schema_name):
            write()

    with schema_context(acme.schema_name), transaction.atomic():
        Group.objects.create(name="undone")
        in_a_bare_thread(write_at_home)
        transaction.set_rollback(True)

    assert observer.groups() == {acme.schema_name: ["a row"]}


def test_a_transaction_in_a_helper_thread_leaves_the_caller_free(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name):
        by_to_thread(transaction.atomic(write))
        Group.objects.create(name="another")

    assert observer.groups() == {acme.schema_name: ["a row", "another"]}


# Helper threads' connections


def hold_connection_in_thread() -> int:
    pids: list[int] = []
    thread = Thread(target=lambda: pids.append(backend()))
    thread.start()
    thread.join()
    return pids[0]


def backend() -> int:
    with schema_context("public"):
        [[pid]] = sql("SELECT pg_backend_pid()")
    return int(pid)


def hold_connection_by_to_thread() -> int:
    return asyncio.run(asyncio.to_thread(backend))


def hold_connection_by_an_executor() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(backend).result()


@pytest.mark.parametrize(
    "hold", [hold_connection_in_thread, hold_connection_by_to_thread, hold_connection_by_an_executor]
)
def test_the_connection_of_a_thread_is_closed_when_it_ends(observer: Observer, hold: Callable[[], int]) -> None:
    pid = hold()
    assert pid != backend()
    wait_until(lambda: pid not in observer.sessions(), seconds=30, what="the end of the thread's session")


# Dispatches


@pytest.mark.parametrize("dispatch", DISPATCHES)
def test_a_dispatch_is_sent_when_it_is_called(acme: Tenant, dispatch: str) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        sql("SELECT 1")
        with queries() as sent:
            DISPATCHES[dispatch]()
        assert "public.jobs_dispatch(" in str(sent) or "INSERT INTO public.jobs_job" in str(sent)


@pytest.mark.parametrize("dispatch", ["delay_on_commit", "apply_async_on_commit", "for_each_tenant_on_commit"])
@pytest.mark.parametrize("first", ["SELECT 1", ""])
def test_a_dispatch_in_a_transaction_of_psycopgs_is_part_of_it(
    acme: Tenant, observer: Observer, dispatch: str, first: str
) -> None:
    deeds: dict[str, Deed] = {**DISPATCHES, "for_each_tenant_on_commit": lambda: probe.for_each_tenant_on_commit("all")}
    connection.ensure_connection()
    with schema_context(acme.schema_name):
        with suppress(Undo), connection.connection.transaction():
            if first:
                sql(first)
            deeds[dispatch]()
            assert observer.jobs() == []
            raise Undo
        assert observer.jobs() == []

        with connection.connection.transaction():
            deeds[dispatch]()
    assert (acme.schema_name, '["all"]' if "for_each" in dispatch else '["durable"]') in observer.jobs()


def test_a_savepoint_of_psycopgs_that_is_rolled_back_takes_the_dispatch_along(acme: Tenant, observer: Observer) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        probe.delay_on_commit("kept")
        with connection.connection.transaction(force_rollback=True):
            probe.delay_on_commit("gone")
        sql("SAVEPOINT here")
        probe.delay_on_commit("gone as well")
        sql("ROLLBACK TO SAVEPOINT here")

    assert observer.jobs() == [(acme.schema_name, '["kept"]')]


def test_a_dispatch_belongs_to_the_schema_in_which_it_was_called(
    acme: Tenant, globex: Tenant, observer: Observer
) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        probe.delay_on_commit("one")
        with schema_context(globex.schema_name):
            probe.delay_on_commit("two")
            assert delay() == globex.schema_name
        probe.delay_on_commit("three")
        assert delay() == acme.schema_name

    home, away = acme.schema_name, globex.schema_name
    assert observer.jobs() == [(home, '["one"]'), (away, '["two"]'), (home, '["three"]')]


# Django's cache of content types


@pytest.fixture
def own_ids(acme: Tenant, globex: Tenant, observer: Observer) -> Iterator[dict[str, int]]:
    """The id of Group's content type in each schema; globex has another one than acme."""
    move_content_type(observer, globex.schema_name, by=1000)
    try:
        yield {tenant.schema_name: content_type_id(observer, tenant.schema_name) for tenant in (acme, globex)}
    finally:
        ContentType.objects.clear_cache()
        move_content_type(observer, globex.schema_name, by=-1000)


def content_type_id(observer: Observer, schema: str) -> int:
    [[found]] = observer.execute(
        f"SELECT id FROM \"{schema}\".django_content_type WHERE app_label = 'auth' AND model = 'group'"
    )
    return int(found)


def move_content_type(observer: Observer, schema: str, *, by: int) -> None:
    """In one message, which is a transaction."""
    old = content_type_id(observer, schema)
    observer.execute(
        f"""
        UPDATE "{schema}".django_content_type SET id = {old + by} WHERE id = {old};
        UPDATE "{schema}".auth_permission SET content_type_id = {old + by} WHERE content_type_id = {old};
        """
    )


LOOKS: dict[str, Callable[[], ContentType]] = {
    "by model": lambda: ContentType.objects.get_for_model(Group),
    "by models": lambda: ContentType.objects.get_for_models(Group, ContentType)[Group],
    "by natural key": lambda: ContentType.objects.get_by_natural_key("auth", "group"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_content_type_is_the_tenants_own(own_ids: dict[str, int], look: str) -> None:
    ContentType.objects.clear_cache()
    for _ in range(2):
        for schema, own_id in own_ids.items():
            with schema_context(schema):
                assert LOOKS[look]().pk == own_id


def test_a_content_type_is_found_by_the_tenants_own_id(acme: Tenant, globex: Tenant, own_ids: dict[str, int]) -> None:
    ContentType.objects.clear_cache()
    with schema_context(acme.schema_name):
        assert ContentType.objects.get_for_id(own_ids[acme.schema_name]).model == "group"
    with schema_context(globex.schema_name), pytest.raises(ContentType.DoesNotExist):
        ContentType.objects.get_for_id(own_ids[acme.schema_name])


@pytest.mark.parametrize("look", LOOKS)
def test_a_content_type_is_the_tenants_own_while_another_tenant_looks(own_ids: dict[str, int], look: str) -> None:
    turn = Barrier(len(own_ids))

    def look_in(schema: str) -> Callable[[], set[int]]:
        def run() -> set[int]:
            found = set()
            with schema_context(schema):
                for _ in range(3):
                    turn.wait(timeout=10)
                    found.add(LOOKS[look]().pk)
            return found

        return run

    ContentType.objects.clear_cache()
    found = at_once(*(look_in(schema) for schema in own_ids))
    assert found == [{own_id} for own_id in own_ids.values()]


def test_coroutines_of_two_tenants_get_their_own_content_types(own_ids: dict[str, int]) -> None:
    async def look_in(schema: str) -> int:
        with schema_context(schema):
            found = [await sync_to_async(LOOKS["by model"])() for _ in range(5)]
        [own_id] = {content_type.pk for content_type in found}
        return int(own_id)

    async def look() -> list[int]:
        found = await asyncio.gather(*(look_in(schema) for schema in own_ids))
        await sync_to_async(lambda: connection.close())()
        return found

    ContentType.objects.clear_cache()
    assert asyncio.run(look()) == list(own_ids.values())
