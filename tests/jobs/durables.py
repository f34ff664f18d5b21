"""Durable jobs for tests. Their effect is a row in their tenant's schema: a group, whose name is unique there."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, cast

from celery import current_app, shared_task
from celery.app import app_or_default
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import Group
from django.db import transaction
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from jobs.models import Job
from jobs.relay.line import Due
from jobs.relay.process import Relay
from jobs.relay.publisher import Publisher
from jobs.task import TenantTask
from tenants.connection import connection
from tests.jobs.probes import GO, RAN, broker, note

Body = Callable[..., Any]


class Bodies:
    """What the tasks `atomic` and `open` do, in this process: `bodies.current`, which a test sets."""

    current: Body

    def __call__(self, body: Body) -> Body:
        self.current = body
        return body


bodies = Bodies()

#: When the rows of an inactive tenant are to be sent.
PARKING = "timestamptz '9999-01-01 00:00:00+00'"


@shared_task(bind=True, max_retries=2)
def atomic(self: TenantTask, *args: Any, **kwargs: Any) -> Any:
    return bodies.current(self, *args, **kwargs)


@shared_task(bind=True, max_retries=2, atomic=False)
def open(self: TenantTask, *args: Any, **kwargs: Any) -> Any:
    return bodies.current(self, *args, **kwargs)


@shared_task(
    bind=True,
    autoretry_for=(ConnectionError,),
    retry_backoff=100,
    retry_backoff_max=150,
    retry_jitter=False,
    max_retries=2,
)
def stubborn(self: TenantTask) -> Any:
    return bodies.current(self)


# For real workers


@shared_task
def mark(name: str) -> str:
    """Leaves its name in the tenant's schema, where it can stand but once."""
    note(name)
    Group.objects.create(name=name)
    return name


@shared_task
def writes(name: str) -> None:
    """As `mark`, and tells nobody: for a broker that takes nothing."""
    Group.objects.create(name=name)


@shared_task(bind=True)
def dies_once(self: TenantTask, name: str, fatality: str) -> str:
    """Its first attempt ends badly, after its effect; the second is fine."""
    note(name)
    Group.objects.create(name=name)
    if Job.objects.get(id=self.request.id).attempt == 1:
        FATALITIES[fatality]()
    return name


@shared_task(bind=True, atomic=False)
def lingers(self: TenantTask, name: str, seconds: float) -> str:
    note(name, pid=os.getpid())
    time.sleep(seconds)
    with self.completion() as done:
        Group.objects.create(name=name)
        done.result = name
    return name


@shared_task
def hangs(name: str) -> None:
    """Until its process is killed: it does not mind the soft limit."""
    note(name)
    Group.objects.create(name=name)
    while True:
        with contextlib.suppress(SoftTimeLimitExceeded):
            time.sleep(60)


@shared_task
def pesters(name: str) -> None:
    """When it has ended, its process gets signals of soft limits."""
    note(name, pid=os.getpid())
    threading.Thread(target=_pester, args=[sys._getframe()]).start()


@shared_task(atomic=False)
def pesters_outside(name: str) -> None:
    pesters.run(name)


def _pester(body: FrameType) -> None:
    main = cast(int, threading.main_thread().ident)
    while body in _callers(sys._current_frames()[main]):
        time.sleep(0)
    for _ in range(1000):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.0002)
    broker().rpush(RAN, json.dumps({"name": "pestered"}))


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


@shared_task
def locks_and_waits(name: str) -> None:
    """Takes a lock that another run of it needs, and waits for a word with it."""
    sql("SELECT FROM public.tenants_tenant WHERE slug = 'globex' FOR NO KEY UPDATE")
    note(name)
    Group.objects.create(name=name)
    while not broker().lpop(GO):
        time.sleep(0.02)


@shared_task(bind=True, atomic=False)
def completes_late(self: TenantTask, name: str) -> None:
    """Completes when the test says so; then notes a soft limit that it hears of."""
    note(name)
    while not broker().lpop(GO):
        time.sleep(0.02)
    try:
        with self.completion():
            Group.objects.create(name=name)
    except SoftTimeLimitExceeded:
        note("heard of it")


@shared_task(atomic=False)
def tidies_up(name: str) -> None:
    """Waits for the database too long, and makes something of that."""
    try:
        sql("SELECT pg_sleep(60)")
    except SoftTimeLimitExceeded:
        Group.objects.create(name=name)


def _goes_on_after(act: Callable[[], Any], name: str) -> None:
    """Acts until its soft limit passes, and makes something of that."""
    try:
        while True:
            act()
    except SoftTimeLimitExceeded:
        Group.objects.create(name=name)


def _bind(schema: str) -> None:
    with schema_context(schema):
        pass


def _bind_and_query(schema: str) -> None:
    with schema_context(schema):
        Group.objects.exists()


def _begin(schema: str) -> None:
    with transaction.atomic():
        pass


def _begin_and_write(schema: str) -> None:
    with transaction.atomic():
        sql("UPDATE auth_group SET name = name")


def _nest(schema: str) -> None:
    with transaction.atomic(), transaction.atomic(), schema_context(schema):
        Group.objects.exists()


def _stream(schema: str) -> None:
    with connection.cursor() as cursor:
        for _ in cursor.stream("SELECT generate_series(1, 100)"):
            pass


ACTS: dict[str, Callable[[str], object]] = {
    "bind": _bind,
    "query": _bind_and_query,
    "begin": _begin,
    "write": _begin_and_write,
    "nest": _nest,
    "statements": lambda schema: sql("SELECT 1"),
    "stream": _stream,
}


@shared_task
def acts(name: str, act: str, away: str) -> None:
    _goes_on_after(partial(ACTS[act], away), name)


@shared_task(atomic=False)
def acts_outside(name: str, act: str, away: str) -> None:
    _goes_on_after(partial(ACTS[act], away), name)


@shared_task(bind=True, max_retries=1)
def retries_once(self: TenantTask, name: str) -> str:
    note(name, retries=self.request.retries)
    Group.objects.create(name=name)
    if self.request.retries == 0:
        self.retry(countdown=1)
    return name


class Unprinted(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __reduce__ = __str__


def _odd_syntax() -> SyntaxError:
    error = SyntaxError("odd syntax")
    error.filename, error.lineno, error.text = "f", "no number", 7  # type: ignore[assignment]  # as a parser might
    return error


ODD_ERRORS: dict[str, Callable[[], Exception]] = {
    "OSError": lambda: OSError(threading.Lock()),  # can't be pickled
    "Unprinted": Unprinted,
    "SyntaxError": _odd_syntax,
    "ValueError": lambda: ValueError("x" * 10_000_000),
}


@shared_task
def raises_oddly(name: str, error: str) -> None:
    note(name, pid=os.getpid())
    raise ODD_ERRORS[error]()


def _exit() -> None:
    raise SystemExit(3)


FATALITIES: dict[str, Callable[[], Any]] = {
    "kill -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SystemExit": _exit,
    "connection lost": lambda: _execute("SELECT pg_terminate_backend(pg_backend_pid())"),
}


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


# What tests see of them


def groups(schema: str) -> list[str]:
    """The names that jobs have left in a schema."""
    with schema_context(schema):
        return sorted(Group.objects.values_list("name", flat=True))


def result_of(schema: str, job_id: str) -> TaskResult:
    with schema_context(schema):
        return TaskResult.objects.get(task_id=job_id)


def message_of(job_id: str) -> Due:
    """What the relay would publish of a job, whether or not it is due."""
    job = Job.objects.get(id=job_id)
    schema = job.tenant.schema_name if job.tenant else "public"
    return Due(job.id, job.task, schema, job.soft_limit, job.hard_limit, "")


def new_relay(**options: Any) -> Relay:
    app: Any = app_or_default()
    return Relay(Publisher(app, app.send_job), **options)


def queue_length(queue: str = "jobs") -> int:
    with current_app.connection_for_read() as broker:
        return int(broker.channel().queue_declare(queue).message_count)


def sql(statement: str, *parameters: Any) -> list[Any]:
    """Rows, if there are any, of a statement of the test's own."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description is not None else []


def end_other_sessions() -> None:
    """Of this role in this database: PostgreSQL's own processes there, like autovacuum, have no role."""
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user"
    )
