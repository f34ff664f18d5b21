"""Requests: sync and async views, under WSGI and under ASGI, work at home; and leave the caller's binding as it was."""

import asyncio
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.test import Client
from rest_framework.test import APIClient

from tenants.binding import bound_schema, unbind
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.durables import sql
from tests.tenants.observer import Observer
from tests.tenants.urls_of_views import TURNS, WORKING, turns

pytestmark = [pytest.mark.urls("tests.tenants.urls_of_views"), pytest.mark.usefixtures("own_session")]

VIEWS = [view.__name__ for view in WORKING]
ClientFor = Callable[[Tenant], APIClient]


def host_of(tenant: Tenant) -> str:
    return f"{tenant.slug}.{settings.BASE_DOMAIN}"


# What the caller has bound

BOUND: list[str | None] = [None, "public", "globex"]


@pytest.fixture(params=BOUND)
def bound(request: pytest.FixtureRequest, globex: Tenant) -> str | None:
    """What is bound before a request to acme."""
    if request.param is None:
        unbind()
        return None
    connection.set_schema(globex.schema_name if request.param == "globex" else request.param)
    return bound_schema()


@pytest.mark.parametrize("view", [*VIEWS, "fails"])
def test_a_request_leaves_the_callers_binding(
    acme: Tenant, client_for: ClientFor, bound: str | None, view: str
) -> None:
    response = client_for(acme).get(f"/{view}/?name=x")

    assert response.content.decode() == acme.schema_name
    assert bound_schema() == bound


@pytest.mark.parametrize("host", ["acme.localhost", "localhost", "initech.localhost", "not a host"])
@pytest.mark.parametrize("client", [Client, APIClient])
def test_a_request_without_a_view_leaves_the_callers_binding(
    acme: Tenant, bound: str | None, client: type[Client], host: str
) -> None:
    assert client(headers={"host": host}).get("/nowhere/").status_code in (400, 404)
    assert bound_schema() == bound


def test_a_request_that_raises_leaves_the_callers_binding(
    acme: Tenant, client_for: ClientFor, bound: str | None
) -> None:
    with pytest.raises(KeyError):
        client_for(acme).get("/in_a_sync_view/")
    assert bound_schema() == bound


def test_a_request_that_leaves_a_transaction_open_is_rolled_back(
    acme: Tenant, observer: Observer, client_for: ClientFor, bound: str | None
) -> None:
    client_for(acme).get("/leaves_a_transaction_open/?name=gone")

    assert bound_schema() == bound
    assert observer.groups() == {}
    assert observer.jobs() == []


def test_a_stream_queries_at_home_and_then_leaves_the_callers_binding(
    acme: Tenant, client_for: ClientFor, bound: str | None
) -> None:
    response: Any = client_for(acme).get("/stream/")

    assert b"".join(response.streaming_content).decode().split() == [acme.schema_name] * TURNS
    assert bound_schema() == bound


# Under WSGI


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_under_wsgi_works_at_home(
    acme: Tenant, globex: Tenant, observer: Observer, client_for: ClientFor, view: str
) -> None:
    for tenant in (acme, globex):
        client_for(tenant).get(f"/{view}/?name={tenant.slug}")

    assert_each_is_at_home(observer, acme, globex)


def assert_each_is_at_home(observer: Observer, *tenants: Tenant) -> None:
    assert observer.groups() == {tenant.schema_name: [tenant.slug] for tenant in tenants}
    assert sorted(observer.jobs()) == sorted((tenant.schema_name, f'["{tenant.slug}"]') for tenant in tenants)


def test_what_an_async_view_rolls_back_is_gone(acme: Tenant, observer: Observer, client_for: ClientFor) -> None:
    client_for(acme).get("/fails/?name=gone")

    assert observer.groups() == {}
    assert observer.jobs() == []


def wsgi_response(tenant: Tenant, path: str) -> Any:
    from config.wsgi import application  # which looks at the database when it is imported

    environ: dict[str, Any] = {"HTTP_HOST": host_of(tenant), "PATH_INFO": path, "QUERY_STRING": "name=x"}
    setup_testing_defaults(environ)
    return application(environ, lambda status, headers, error=None: lambda chunk: None)


def test_streams_of_two_tenants_that_take_turns_query_at_home(acme: Tenant, globex: Tenant) -> None:
    unbind()
    streams = [(tenant, wsgi_response(tenant, "/stream/")) for tenant in (acme, globex)]
    chunks = [(tenant, iter(stream)) for tenant, stream in streams]
    for _ in range(TURNS):
        for tenant, chunk in chunks:
            assert next(chunk).decode().strip() == tenant.schema_name
    for _, stream in streams:
        stream.close()

    assert bound_schema() is None


def test_the_application_binds_nothing_in_its_thread(acme: Tenant) -> None:
    unbind()
    response = wsgi_response(acme, "/in_a_sync_view/")
    assert b"".join(response).decode() == acme.schema_name
    response.close()

    assert bound_schema() is None


def test_a_stream_that_is_closed_early_leaves_nothing_bound(acme: Tenant) -> None:
    unbind()
    response = wsgi_response(acme, "/stream/")
    next(iter(response))
    response.close()

    assert bound_schema() is None


# Under ASGI


async def asgi_body(tenant: Tenant, path: str, name: str = "") -> str:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": f"name={name or tenant.slug}".encode(),
        "headers": [(b"host", host_of(tenant).encode())],
    }
    communicator: Any = ApplicationCommunicator(  # type: ignore[no-untyped-call]
        get_asgi_application(), scope
    )
    await communicator.send_input({"type": "http.request"})
    start = await communicator.receive_output(timeout=10)
    assert start["status"] == 200
    body = b""
    more = True
    while more:
        message = await communicator.receive_output(timeout=10)
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await communicator.wait(timeout=10)
    return body.decode()


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_under_asgi_works_at_home(acme: Tenant, globex: Tenant, observer: Observer, view: str) -> None:
    for tenant in (acme, globex):
        assert asyncio.run(asgi_body(tenant, f"/{view}/")) == tenant.schema_name

    assert_each_is_at_home(observer, acme, globex)


@pytest.mark.parametrize("view", VIEWS)
def test_requests_of_two_tenants_at_the_same_time_work_at_home(
    acme: Tenant, globex: Tenant, observer: Observer, view: str
) -> None:
    async def ask_both() -> list[str]:
        return await asyncio.gather(*(asgi_body(tenant, f"/{view}/") for tenant in (acme, globex)))

    assert asyncio.run(ask_both()) == [acme.schema_name, globex.schema_name]
    assert_each_is_at_home(observer, acme, globex)


def test_async_views_of_two_tenants_that_take_turns_work_at_home(
    acme: Tenant, globex: Tenant, observer: Observer
) -> None:
    async def ask_both() -> list[str]:
        turns.barrier = asyncio.Barrier(2)
        return await asyncio.gather(*(asgi_body(tenant, "/by_turns/") for tenant in (acme, globex)))

    assert asyncio.run(ask_both()) == [acme.schema_name, globex.schema_name]

    written = {tenant.schema_name: [f"{tenant.slug} {number}" for number in range(TURNS)] for tenant in (acme, globex)}
    assert observer.groups() == written
    assert sorted(observer.jobs()) == sorted(
        (schema, f'["{name}"]') for schema, names in written.items() for name in names
    )


@pytest.mark.parametrize("view", ["stream", "stream_asynchronously"])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
def test_streams_under_asgi_query_at_home(acme: Tenant, globex: Tenant, observer: Observer, view: str) -> None:
    async def ask_both() -> list[str]:
        return await asyncio.gather(*(asgi_body(tenant, f"/{view}/") for tenant in (acme, globex)))

    for tenant in (acme, globex):
        for _ in range(TURNS):
            observer.add_group(tenant.schema_name, f"{tenant.schema_name}{'_' * _}")
    first, second = asyncio.run(ask_both())

    assert {name.rstrip("_") for name in first.split()} == {acme.schema_name}
    assert {name.rstrip("_") for name in second.split()} == {globex.schema_name}
    assert len(first.split()) == len(second.split()) == TURNS


def test_a_request_under_asgi_leaves_the_callers_binding(acme: Tenant, bound: str | None) -> None:
    assert asyncio.run(asgi_body(acme, "/in_an_async_view/")) == acme.schema_name
    assert bound_schema() == bound


def test_the_next_request_does_not_find_what_an_async_view_left(
    acme: Tenant, globex: Tenant, client_for: ClientFor
) -> None:
    client_for(acme).get("/leaves_a_transaction_open/?name=gone")
    client_for(globex).get("/in_an_async_view/?name=kept")

    connection.set_schema(globex.schema_name)
    assert sql("SELECT name FROM auth_group") == [("kept",)]
