"""Where code may run that a thread calls: there, in other threads, in coroutines."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

from tenants.connection import connection

Deed = Callable[[], Any]


def here(deed: Deed) -> Any:
    return deed()


def closing(deed: Deed) -> Deed:
    """A helper thread's connection is closed with its work, so that the test's end does not wait for it."""

    def close_after() -> Any:
        try:
            if connection.connection is None:
                connection.ensure_connection()
            return deed()
        finally:
            connection.close()

    return close_after


def in_a_bare_thread(deed: Deed) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(closing(deed)).result()


def in_a_thread_with_this_context(deed: Deed) -> Any:
    context = contextvars.copy_context()
    return in_a_bare_thread(lambda: context.run(closing(deed)))


def by_to_thread(deed: Deed) -> Any:
    return asyncio.run(asyncio.to_thread(closing(deed)))


def by_sync_to_async(deed: Deed) -> Any:
    async def call() -> Any:
        return await sync_to_async(closing(deed))()

    return asyncio.run(call())


def by_sync_to_async_in_any_thread(deed: Deed) -> Any:
    async def call() -> Any:
        return await sync_to_async(closing(deed), thread_sensitive=False)()

    return asyncio.run(call())


def by_async_to_sync(deed: Deed) -> Any:
    @async_to_sync
    async def call() -> Any:
        return await sync_to_async(deed)()

    return call()


OTHER_THREADS = [in_a_thread_with_this_context, by_to_thread, by_sync_to_async, by_sync_to_async_in_any_thread]
HEIRS = [here, by_async_to_sync, *OTHER_THREADS]
