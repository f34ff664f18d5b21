"""Views for tests, on a tenant's host. Each leaves a group and a job that are named by the request."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path

from tenants.connection import connection
from tests.jobs.durables import sql
from tests.jobs.probes import probe

TURNS = 3


class Turns:
    """What the views `by_turns` wait for: `turns.barrier`, which a test sets."""

    barrier: asyncio.Barrier


turns = Turns()


def work(name: str) -> None:
    Group.objects.create(name=name)
    probe.delay_on_commit(name)


async def work_asynchronously(name: str) -> None:
    await Group.objects.acreate(name=name)
    await sync_to_async(probe.delay_on_commit)(name)


def answer() -> HttpResponse:
    return HttpResponse(connection.schema_name)


def in_a_sync_view(request: HttpRequest) -> HttpResponse:
    work(request.GET["name"])
    return answer()


def by_async_to_sync(request: HttpRequest) -> HttpResponse:
    async_to_sync(work_asynchronously)(request.GET["name"])
    return answer()


@transaction.atomic
def by_async_to_sync_in_atomic(request: HttpRequest) -> HttpResponse:
    async_to_sync(work_asynchronously)(request.GET["name"])
    return answer()


async def in_an_async_view(request: HttpRequest) -> HttpResponse:
    await work_asynchronously(request.GET["name"])
    found = await Group.objects.aget(name=request.GET["name"])
    assert found.name == request.GET["name"]
    return answer()


async def by_sync_to_async(request: HttpRequest) -> HttpResponse:
    await sync_to_async(work)(request.GET["name"])
    return answer()


async def by_sync_to_async_in_atomic(request: HttpRequest) -> HttpResponse:
    await sync_to_async(transaction.atomic(work))(request.GET["name"])
    return answer()


async def by_to_thread(request: HttpRequest) -> HttpResponse:
    await asyncio.to_thread(work, request.GET["name"])
    return answer()


async def by_turns(request: HttpRequest) -> HttpResponse:
    for number in range(TURNS):
        await turns.barrier.wait()
        await work_asynchronously(f"{request.GET['name']} {number}")
    return answer()


async def fails(request: HttpRequest) -> HttpResponse:
    await sync_to_async(roll_back)(request.GET["name"])
    return answer()


def roll_back(name: str) -> None:
    with transaction.atomic():
        work(name)
        transaction.set_rollback(True)


def stream(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(schemas())


def schemas() -> Iterator[str]:
    for _ in range(TURNS):
        [[schema]] = sql("SELECT current_schema()")
        yield f"{schema} "


async def stream_asynchronously(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(names())


async def names() -> AsyncIterator[str]:
    async for group in Group.objects.order_by("name"):
        yield f"{group.name} "
        assert await Group.objects.filter(name=group.name).aexists()


def leaves_a_transaction_open(request: HttpRequest) -> HttpResponse:
    sql("BEGIN")
    work(request.GET["name"])
    return answer()


WORKING: list[Any] = [
    in_a_sync_view,
    by_async_to_sync,
    by_async_to_sync_in_atomic,
    in_an_async_view,
    by_sync_to_async,
    by_sync_to_async_in_atomic,
    by_to_thread,
]
OTHERS: list[Any] = [by_turns, fails, stream, stream_asynchronously, leaves_a_transaction_open]

urlpatterns = [path(f"{view.__name__}/", view) for view in [*WORKING, *OTHERS]]
