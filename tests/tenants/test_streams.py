"""A response that streams is a part of its request: made, read and closed in the request's context."""

import contextvars
import decimal
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.http import StreamingHttpResponse
from django_tenants.utils import schema_context

from tenants.binding import bound_schema
from tenants.connection import connection
from tenants.models import Tenant
from tenants.wsgi import OwnContext
from tests.jobs.durables import groups, sql

pytestmark = [
    pytest.mark.usefixtures("committed_db"),
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators:Warning"),
]

Stream = Callable[[], Any]
secret: ContextVar[str] = ContextVar("secret", default="nobody's")


async def in_schema() -> AsyncIterator[str]:
    yield f"{bound_schema()} "
    yield f"{bound_schema()} "


async def by_orm() -> AsyncIterator[str]:
    async for group in Group.objects.order_by("name").aiterator():
        yield f"{group.name} "


async def that_sets() -> AsyncIterator[str]:
    secret.set("acme's")
    decimal.getcontext().prec = 3
    yield ""


async def that_writes() -> AsyncIterator[str]:
    await Group.objects.acreate(name="written late")
    yield ""


async def that_leaves_a_mess() -> AsyncIterator[str]:
    await sync_to_async(sql)("SET statement_timeout = '7s'")
    await sync_to_async(sql)("BEGIN")
    await Group.objects.acreate(name="never committed")
    yield ""


async def that_fails() -> AsyncIterator[str]:
    await Group.objects.acreate(name="before")
    raise KeyError("in a stream")
    yield ""


def what_is_set() -> Iterator[str]:
    yield f"{secret.get()} {decimal.getcontext().prec}"


async def limit() -> AsyncIterator[str]:
    [(limit,)] = await sync_to_async(sql)("SHOW statement_timeout")
    yield limit


class Closing(StreamingHttpResponse):
    """Tells where it was closed."""

    closed_in: list[str | None]

    def close(self) -> None:
        super().close()
        self.closed_in.append(bound_schema())


def served(tenant: Tenant, stream: Stream) -> str:
    """What a client gets of it, as a server's thread reads it; it has to be closed at home."""
    closed_in: list[str | None] = []

    def view(environ: dict[str, Any], start_response: Any) -> StreamingHttpResponse:
        connection.set_schema(tenant.schema_name)
        response = Closing(stream())
        response.closed_in = closed_in
        return response

    try:
        response = OwnContext(view)({}, lambda *head: None)
        try:
            return b"".join(response).decode()
        finally:
            response.close()
    finally:
        assert closed_in == [tenant.schema_name]


def on_a_threads_own(act: Callable[[], Any]) -> Any:
    """In a context like that of a server's thread, which binds nothing."""
    return contextvars.Context().run(act)


def test_an_async_stream_is_at_home(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        with schema_context(tenant.schema_name):
            Group.objects.create(name=tenant.slug)

    def serve() -> list[str]:
        return [served(tenant, stream) for tenant in (acme, globex) for stream in (in_schema, by_orm)]

    assert on_a_threads_own(serve) == [
        f"{acme.schema_name} {acme.schema_name} ",
        "acme ",
        f"{globex.schema_name} {globex.schema_name} ",
        "globex ",
    ]


def test_an_async_stream_writes_at_home(acme: Tenant, globex: Tenant) -> None:
    on_a_threads_own(lambda: served(acme, that_writes))
    assert (groups(acme.schema_name), groups(globex.schema_name)) == (["written late"], [])


def test_what_an_async_stream_sets_the_next_request_does_not_find(acme: Tenant, globex: Tenant) -> None:
    def serve() -> str:
        served(acme, that_sets)
        return served(globex, what_is_set)

    assert on_a_threads_own(serve) == "nobody's 28"


def test_a_mess_that_an_async_stream_leaves_the_next_request_does_not_find(acme: Tenant, globex: Tenant) -> None:
    def serve() -> tuple[str, str]:
        before = served(globex, limit)
        served(acme, that_leaves_a_mess)
        return before, served(globex, limit)

    before, after = on_a_threads_own(serve)
    assert before == after != "7s"
    assert groups(acme.schema_name) == []


def test_an_async_stream_has_its_requests_limits(acme: Tenant, settings: Any) -> None:
    settings.REQUEST_STATEMENT_SECONDS = 11
    assert on_a_threads_own(lambda: served(acme, limit)) == "11s"


def test_an_async_stream_that_fails_is_closed_and_leaves_nothing(acme: Tenant, globex: Tenant) -> None:
    def serve() -> str:
        with pytest.raises(KeyError, match="in a stream"):
            served(acme, that_fails)
        return served(globex, in_schema)

    assert on_a_threads_own(serve) == f"{globex.schema_name} " * 2
    assert groups(acme.schema_name) == ["before"]
