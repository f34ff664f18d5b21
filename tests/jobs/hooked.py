"""Tasks with hooks, for tests; what ran is told through Redis, and left as groups in the tenant's schema."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import Group
from django.db import transaction

from jobs.task import TenantTask
from tenants.connection import connection
from tests.jobs.durables import sql
from tests.jobs.probes import GO, broker, note


class Hooked(TenantTask):
    """Notes each of its hooks. The argument `deeds` says what more they do, by their names."""

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self._do("before_start", args, kwargs)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self._do("on_success", args, kwargs)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._do("on_failure", args, kwargs)

    def on_retry(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._do("on_retry", args, kwargs)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self._do("after_return", args, kwargs)

    def _do(self, hook: str, args: Any, kwargs: Any) -> None:
        note(hook, arguments=[list(args), dict(kwargs)])
        DEEDS[kwargs.get("deeds", {}).get(hook, "nothing")](hook)


def _write(hook: str) -> None:
    Group.objects.create(name=hook)


def _fail(hook: str) -> None:
    raise ValueError(f"{hook} as asked")


def _begin(hook: str) -> None:
    sql("BEGIN")
    Group.objects.create(name=f"{hook}, never committed")


DEEDS: dict[str, Callable[[str], Any]] = {
    "nothing": lambda hook: None,
    "write": _write,
    "fail": _fail,
    "exit": lambda hook: sys.exit(3),
    "cancel": lambda hook: _raise(asyncio.CancelledError(hook)),
    "begin": _begin,
    "wander": lambda hook: connection.set_schema("public"),
    "divide by zero": lambda hook: sql("SELECT 1 / 0"),
    "hang": lambda hook: time.sleep(60),
    "hang hard": lambda hook: _hang_hard(),
}


def _hang_hard() -> None:
    while True:
        with suppress(SoftTimeLimitExceeded):
            time.sleep(60)


def _raise(error: BaseException) -> None:
    raise error


def _body(task: TenantTask, *args: Any, **kwargs: Any) -> str:
    note("body", arguments=[list(args), kwargs])
    Group.objects.get_or_create(name="body")
    for number in range(2):
        transaction.on_commit(
            partial(DEEDS[kwargs.get("deeds", {}).get("on_commit", "nothing")], f"on_commit {number}")
        )
    ending = kwargs.get("ending")
    if ending == "retry" and task.request.retries == 0:
        raise task.retry(countdown=0)
    if ending == "robbed":
        while not broker().lpop(GO):
            time.sleep(0.02)
    if ending in ("failure", "robbed"):
        raise ValueError("as asked")
    return "done"


@shared_task(base=Hooked, bind=True, max_retries=1)
def hooked(self: Hooked, *args: Any, **kwargs: Any) -> str:
    return _body(self, *args, **kwargs)


@shared_task(base=Hooked, bind=True, max_retries=1, atomic=False)
def hooked_outside(self: Hooked, *args: Any, **kwargs: Any) -> str:
    if kwargs.get("ending") != "completion":
        return _body(self, *args, **kwargs)
    with self.completion() as completion:
        completion.result = _body(self, *args, **kwargs)
    note("after completion", arguments=[list(args), kwargs])
    return "done"


@shared_task
def noted() -> None:
    """An errback."""
    note("errback")
