"""Tasks for tests with a real worker (`--include tests.jobs.probes`). What ran, and where, is told through Redis."""

import contextlib
import gc
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import redis
from celery import current_app, shared_task
from celery.canvas import Signature, maybe_signature
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from django.conf import settings
from django.db import DatabaseError, transaction

from jobs.task import TenantTask
from tenants.connection import connection

RAN = f"{settings.REDIS_KEY_PREFIX}probes"
GO = f"{settings.REDIS_KEY_PREFIX}probes-go"


def broker() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)


def note(name: str, **facts: Any) -> dict[str, Any]:
    """Record that a body ran: where Django believes to be, and where the database is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        [schema] = cursor.fetchone()
    ran = {"name": name, "believed": connection.schema_name, "schema": schema, **facts}
    broker().rpush(RAN, json.dumps(ran))
    return ran


def ran() -> list[dict[str, Any]]:
    return [json.loads(line) for line in broker().lrange(RAN, 0, -1)]


@shared_task
def probe(name: str, *results: Any) -> str:
    """The schema that it ran in."""
    return str(note(name)["schema"])


@shared_task
def counts_frozen(name: str) -> None:
    """Objects that no collection of garbage looks at in this process."""
    note(name, frozen=gc.get_freeze_count())


@shared_task(bind=True)
def forward(self: TenantTask, name: str) -> str:
    """Dispatches with the headers of its own message."""
    note(name)
    return str(probe.apply_async((f"{name}'s child",), headers=self.request.headers).id)


@shared_task
def nest(name: str) -> str:
    note(name)
    return str(probe.delay(f"{name}'s child").id)


@shared_task(bind=True)
def replaced(self: TenantTask, name: str) -> None:
    note(name)
    self.replace(probe.s(f"{name}'s substitute"))


@shared_task(bind=True)
def replaced_by(self: TenantTask, substitute: Any) -> None:
    """`substitute` is a signature, as it arrives: a dictionary."""
    note("replaced")
    self.replace(maybe_signature(substitute, app=current_app))


@shared_task(bind=True, max_retries=1)
def tries_again(
    self: TenantTask, name: str, wander_to: str | None = None, suspend: str | None = None, countdown: int = 0
) -> str:
    """Retries once, from another schema if told so, or when it has suspended a tenant."""
    where = note(name, retries=self.request.retries)["schema"]
    if self.request.retries == 0:
        if suspend:
            _execute(f"UPDATE public.tenants_tenant SET status = 'suspended' WHERE schema_name = '{suspend}'")
        if wander_to:
            connection.set_schema(wander_to)
        self.retry(countdown=countdown)
    return str(where)


@shared_task(autoretry_for=(ValueError,), max_retries=1, default_retry_delay=0)
def retries_by_itself(name: str) -> None:
    note(name)
    raise ValueError(name)


@shared_task
def fails(name: str) -> None:
    note(name)
    raise ValueError(name)


@shared_task
def sleeps(name: str, seconds: float = 60, stubborn: bool = False) -> str:
    """`stubborn`: through its soft time limit."""
    note(name)
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        if not stubborn:
            raise
        time.sleep(seconds)
    return name


@shared_task
def lingers(name: str) -> None:
    note(name, lap="first")
    time.sleep(1)
    note(name, lap="last")


@shared_task
def errback(task_id: str) -> None:
    note("errback", of=task_id)


@shared_task
def inline_errback(request: Any, exc: Exception, traceback: Any) -> None:
    """Celery calls one with these arguments where the failure is handled, without a message."""
    note("inline errback", of=request.id, error=type(exc).__name__)


class OwnTask(TenantTask):
    abstract = True

    def on_failure(self, *args: Any) -> None:
        note("on_failure")

    def on_success(self, *args: Any) -> None:
        note("on_success")


@shared_task(base=OwnTask)
def own(name: str, fail: bool = False) -> str:
    note(name)
    if fail:
        raise ValueError(name)
    return name


class KilledInTheEnd(TenantTask):
    abstract = True

    def on_success(self, *args: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@shared_task(base=KilledInTheEnd)
def own_killed(name: str) -> None:
    note(name)


@shared_task
def applies(name: str, inner: dict[str, Any]) -> list[str]:
    """Runs another task here and now, and goes on in its own schema."""
    before = note(f"{name} before")["schema"]
    result = Signature.from_dict(inner, app=current_app).apply()
    after = note(f"{name} after", inner=result.state)["schema"]
    return [before, after]


@shared_task(bind=True)
def reports_progress(self: TenantTask, name: str) -> None:
    note(name)
    self.update_state(state="PROGRESS", meta={"done": 1})
    while not broker().lpop(GO):
        time.sleep(0.02)


def go() -> None:
    """Lets a task that waits for it go on."""
    broker().rpush(GO, "go")


# What a body may leave behind. `globex` is the other tenant's schema.
MESSES: dict[str, Callable[[str], Any]] = {
    "nothing": lambda globex: None,
    "another schema": lambda globex: connection.set_schema(globex),
    "another search path": lambda globex: _execute(f"SET search_path = {globex}"),
    "an open atomic block": lambda globex: transaction.atomic().__enter__(),
    "an open atomic block, broken": lambda globex: _in_an_open_block(_fail_to_execute),
    "an open atomic block, closed": lambda globex: _in_an_open_block(connection.close),
    "an open transaction": lambda globex: _execute(f"BEGIN; SET LOCAL search_path = {globex}"),
    "no autocommit": lambda globex: connection.set_autocommit(False),
    "a closed connection": lambda globex: connection.close(),
    "a dead connection": lambda globex: _fail_to_execute("SELECT pg_terminate_backend(pg_backend_pid())"),
}


def _in_an_open_block(deed: Callable[[], None]) -> None:
    transaction.atomic().__enter__()
    deed()


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _fail_to_execute(statement: str = "SELECT 1 / 0") -> None:
    with contextlib.suppress(DatabaseError):
        _execute(statement)


def _raise(error: BaseException) -> None:
    raise error


# How a body may end.
ENDINGS: dict[str, Callable[[TenantTask], Any]] = {
    "success": lambda task: None,
    "exception": lambda task: _raise(ValueError("as asked")),
    "database error": lambda task: _execute("SELECT 1 / 0"),
    "Ignore": lambda task: _raise(Ignore()),
    "Reject": lambda task: _raise(Reject("as asked", requeue=False)),
    "Retry": lambda task: task.retry(countdown=0),
    "soft limit": lambda task: time.sleep(60),
    "SystemExit": lambda task: _raise(SystemExit(1)),
    "kill -9": lambda task: os.kill(os.getpid(), signal.SIGKILL),
}


@shared_task(bind=True, max_retries=1)
def ends(self: TenantTask, name: str, ending: str, mess: str = "nothing", globex: str = "") -> None:
    note(name)
    if self.request.retries == 0:
        MESSES[mess](globex)
        ENDINGS[ending](self)
