"""Views that leave everything behind, and views that look for it, for real web servers."""

import decimal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils import translation

from tenants.connection import connection
from tests.jobs.durables import sql
from tests.leftovers import TRANSACTIONS, leave_everything, pass_on, secret, what_is_found

#: How many requests are in their views at the same time, where a test wants that.
AT_ONCE = 4
_all_here = threading.Barrier(AT_ONCE)
_closed: list[str] = []


class RaisesEarly:
    """Middleware that fails before anything is bound, and leaves behind what needs no database."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "X-Raise-Early" in request.headers:
            _all_here.wait(timeout=20)
            secret.set("x")
            translation.activate("de")
            decimal.getcontext().prec = 3
            connection.execute_wrappers.append(pass_on)
            raise ValueError("as asked")
        return self.get_response(request)


def report(**facts: Any) -> JsonResponse:
    [[schema, session]] = sql("SELECT current_schema(), pg_backend_pid()")
    return JsonResponse({"schema": schema, "believed": connection.schema_name, "session": session, **facts})


def looks(request: HttpRequest) -> HttpResponse:
    if "alone" not in request.GET:
        _all_here.wait(timeout=20)
    if "rolls_back" in request.GET:
        with transaction.atomic():
            sql("SELECT 1")
            transaction.set_rollback(True)
    return report(found=what_is_found())


def leaves(request: HttpRequest) -> HttpResponse:
    _all_here.wait(timeout=20)
    response = report(found=what_is_found(), left=leave_everything())
    if "fails" in request.GET:
        raise ValueError("as asked")
    return response


def leaves_a_transaction(request: HttpRequest) -> HttpResponse:
    _all_here.wait(timeout=20)
    response = report(found=what_is_found())
    TRANSACTIONS[request.GET["how"]]()
    Group.objects.create(name=f"gone {id(request)}")
    if "fails" in request.GET:
        raise ValueError("as asked")
    return response


def streams(request: HttpRequest) -> HttpResponseBase:
    """Until the client goes away."""
    return StreamingHttpResponse(chunks())


def chunks() -> Iterator[bytes]:
    try:
        leave_everything()
        sql("BEGIN")
        _all_here.wait(timeout=20)
        while True:
            sql("SELECT 1")
            yield b"x" * 65536
    finally:
        _closed.append("a stream")


def closed(request: HttpRequest) -> HttpResponse:
    """How many streams have ended."""
    return JsonResponse({"closed": len(_closed)})


def works(request: HttpRequest) -> HttpResponse:
    """Adds a row, and lists them all, beside others."""
    found = secret.get()
    secret.set("x")
    with transaction.atomic():
        Group.objects.create(name=request.GET["name"])
        sql("SELECT pg_sleep(0.01)")
    return report(found=found, names=[*Group.objects.values_list("name", flat=True)])


def waits(request: HttpRequest) -> HttpResponse:
    """For a lock in the database."""
    sql("SELECT pg_advisory_lock(43)")
    return report()


VIEWS: list[Any] = [looks, leaves, leaves_a_transaction, streams, closed, works, waits]
urlpatterns = [path(f"{view.__name__}/", view) for view in VIEWS]
