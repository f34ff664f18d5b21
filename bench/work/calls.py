"""What drivers do for figures. `homes` are schemas; times are in seconds."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle, islice
from typing import Any

from django.db import connection, transaction

from bench.work import bodies, tasks


def at(home: str) -> AbstractContextManager[Any]:
    """Inside a tenant, for who has tenants."""
    if not hasattr(connection, "set_schema"):
        return nullcontext()
    from django_tenants.utils import schema_context

    entered: AbstractContextManager[Any] = schema_context(home)
    return entered


def turns(homes: Sequence[str], times: int) -> Iterator[str]:
    """One tenant after the other, and again."""
    return islice(cycle(homes), times)


def delay(task: str, homes: Sequence[str], times: int, **arguments: Any) -> float:
    """Plain dispatch, one tenant after the other."""
    called = getattr(tasks, task)
    began = time.perf_counter()
    for home in turns(homes, times):
        with at(home):
            called.delay(home, **arguments)
    return time.perf_counter() - began


def insert(task: str, homes: Sequence[str], times: int, **arguments: Any) -> float:
    """Durable jobs, a transaction each."""
    called = getattr(tasks, task)
    began = time.perf_counter()
    for home in turns(homes, times):
        with at(home), transaction.atomic():
            called.delay_on_commit(home, **arguments)
    return time.perf_counter() - began


def after_a_row(durable: bool, task: str, homes: Sequence[str], times: int) -> float:
    """Dispatches of one tenant: durable jobs in transactions that write a row anyway, or plain ones after them."""
    called, [home] = getattr(tasks, task), homes
    with at(home):
        began = time.perf_counter()
        for _ in range(times):
            with transaction.atomic():
                bodies.note("a row")
                if durable:
                    called.delay_on_commit(home)
            if not durable:
                called.delay(home)
        return time.perf_counter() - began


def map(task: str, homes: Sequence[str], times: int, **arguments: Any) -> float:
    """Durable jobs, so many for each tenant in one transaction."""
    called = getattr(tasks, task)
    began = time.perf_counter()
    for home in homes:
        with at(home), transaction.atomic():
            called.map_on_commit([[home, *arguments.values()]] * times)
    return time.perf_counter() - began


def fill(task: str, homes: Sequence[str], arguments: Sequence[Sequence[Any]]) -> None:
    """Durable jobs, one for each of the arguments, for each home in one transaction."""
    called = getattr(tasks, task)
    for home in homes:
        with at(home), transaction.atomic():
            called.map_on_commit([[home, *each] for each in arguments])


def waits(homes: Sequence[str], pauses: Sequence[float], durable: bool = True) -> list[float]:
    """From the return of COMMIT to the start of the body, one job after the other, after a pause each."""
    [home] = homes
    dispatch = tasks.note_start.delay_on_commit if durable else tasks.note_start.delay
    with at(home):
        return [bodies.wait(dispatch, pause=pause, after_commit=not durable) for pause in pauses]


def hang_once(home: str, time_limit: int) -> None:
    """One durable job that hangs until its worker is lost."""
    with at(home):
        tasks.hang_once.apply_async_on_commit(time_limit=time_limit, soft_time_limit=time_limit)
