"""TenantTask: the default task class. It runs a body in the schema that the task was called in, and in no other."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

import structlog
from celery.app.task import Context
from celery.canvas import Signature
from celery.contrib.django.task import DjangoTask
from celery.exceptions import Retry
from celery.result import EagerResult
from django.db import transaction
from django_tenants.utils import schema_context

from jobs import outbox, run
from jobs.celery_hooks import soft_limits, user_code
from jobs.celery_hooks.internals import runs_in_greenlets
from jobs.celery_hooks.signatures import check_arguments, schemas_of
from jobs.celery_hooks.tracing import in_own_context
from jobs.errors import presentable
from jobs.message import OPTION, header_of, is_durable
from jobs.schema import enter, schema_of
from jobs.times import moment, seconds
from tenants.connection import connection
from tenants.session import end_owner, start_owner

logger = logging.getLogger(__name__)

# Marks a request whose body has begun. An object of our own, so no message header can forge it.
ENTERED = object()


class TenantTask(DjangoTask):
    """A Celery task that belongs to a tenant.

    `delay` and `apply_async` go straight to the broker. The `…_on_commit` calls make a *durable job*: a row, written
    in the caller's transaction, so it exists if and only if that commits.
    """

    Request = "jobs.worker.request:TenantRequest"
    _trace: Any = None
    #: What the app asks before it sends or runs a task: one without this would run in no particular tenant.
    knows_its_tenant = True

    #: Of a durable job: body and completion are one transaction. False for a task that calls the outside world: it runs
    #: outside a transaction, and records its outcome in `self.completion()`.
    atomic = True
    #: Where a schedule may run it: "public" or "tenants". None: wherever its app has tables.
    runs_in: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """A task, whose hooks run at home."""
        task: Self = super().__new__(cls)
        user_code.take_over_hooks(task)
        return task

    # Dispatch of durable jobs

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> str:
        """Make a durable job in the current transaction; the job's id."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """As `delay_on_commit`, with these options: countdown, eta, expires, link, link_error, time_limit,
        soft_time_limit. Raises TypeError for what can't be durable: other options, and arguments that JSON can't hold.

        Raises DataError, and the transaction is lost, if no tenant has the schema.
        """
        args, kwargs = self._checked(tuple(args or ()), dict(kwargs or {}))
        return outbox.insert_one(self._terms(options), args, kwargs, schema=connection.schema_name)

    def map_on_commit(self, argument_lists: Iterable[Sequence[Any]], **options: Any) -> list[str]:
        """One durable job for each list of arguments, inserted in batches, all or none; their ids in order."""
        terms = self._terms(options)
        calls = (self._checked(tuple(args), {}) for args in argument_lists)
        with transaction.atomic():
            return outbox.insert_many(terms, calls, schema=connection.schema_name)

    def for_each_tenant_on_commit(self, *args: Any, **kwargs: Any) -> int:
        """One durable job in each active tenant, by a single statement; how many."""
        return outbox.insert_for_each_tenant(self._terms({}), *self._checked(args, kwargs))

    def _terms(self, options: Mapping[str, Any]) -> outbox.Terms:
        return outbox.Terms.of(self.name, options, expires=self.expires)

    def _checked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> outbox.Call:
        check_arguments(self, args, kwargs)
        return args, kwargs

    # The tenant of retries and eager calls

    def signature_from_request(self, request: Context | None = None, *args: Any, **kwargs: Any) -> Signature[Any]:
        """What a retry publishes: it belongs where the first try did, whatever the body did to the connection."""
        signature = super().signature_from_request(request, *args, **kwargs)
        signature["options"][OPTION] = schema_of(self.request if request is None else request)
        return signature

    def apply(self, *args: Any, tenant_schema: str | None = None, **options: Any) -> EagerResult[Any]:
        """Run the task in this process, in the schema that it belongs to."""
        with schema_context(tenant_schema or connection.schema_name):
            return super().apply(*args, **options)

    # In the worker

    @property
    def __trace__(self) -> Any:
        """What Celery runs for a message: it made that for this process, and put it here."""
        return self._trace

    @__trace__.setter
    def __trace__(self, trace: Any) -> None:
        # Each in a context of its own: what a body binds or sets there, the next one does not find.
        self._trace = trace and in_own_context(trace)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        request = self.request
        if request.called_directly or getattr(request, "entered", None) is ENTERED:
            return super().__call__(*args, **kwargs)
        request.entered = ENTERED
        if not request.is_eager:
            start_owner()
        with user_code.staying_in_process():
            return run.run(self, request) if is_durable(request) else self._run_at_home(request, args, kwargs)

    def _run_at_home(self, request: Context, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        schema = schema_of(request)
        try:
            if not request.is_eager:
                enter(schema)
            result = user_code.run_body(self, request.id, args, kwargs)
            if not request.is_eager and connection.in_transaction():
                logger.warning("%s has left a transaction open, so nothing of that was committed", self.name)
            return result
        finally:
            # Callbacks, hooks and the result are the tenant's too, whatever the body did to the connection.
            if not request.is_eager:
                start_owner()
            connection.set_schema(schema)

    @contextmanager
    def completion(self) -> Iterator[run.Completion]:
        """For `atomic = False`: the one transaction that holds the job's effects and its completion.

        Set its `result` to what the job shall return. Raises, and rolls back, if another worker holds the job by now.
        Raises RuntimeError in another thread than the body's.
        """
        self._refuse_other_thread("completion")
        if not is_durable(self.request):
            with transaction.atomic():
                yield run.Completion()
        else:
            if self.atomic:
                raise RuntimeError(
                    "Body and completion are one transaction: set atomic=False to enter self.completion()."
                )
            if self.request.get("completion") is not None:
                raise RuntimeError("The job is complete already: enter self.completion() once.")
            with soft_limits.deferred():
                with run.completing(self.request) as completion, soft_limits.raised():
                    yield completion
                self.request.completion = completion

    @contextmanager
    def before_call(self) -> Iterator[None]:
        """For `atomic = False`: what the body does in the database before it calls the outside world.

        A passing error of the database in here lets the job run again. Elsewhere in such a body it is the job's death,
        unless a retry policy covers it: the call may have been made. Raises RuntimeError in another thread than the
        body's.
        """
        self._refuse_other_thread("before_call")
        with run.passing_errors(self.request):
            yield

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Exception | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Like Celery's `retry`. A durable job's next try is stored on its row, after the rollback."""
        if not is_durable(self.request):
            try:
                return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
            except Retry as bare:
                # Celery names no time where the task was called as a function. A durable job's body may have done that.
                if bare.when is None:
                    bare.when = countdown if eta is None else eta
                raise
        if args is not None or kwargs is not None or options:
            raise TypeError(
                "A durable job is tried again as it was dispatched: retry() takes exc, eta, countdown, max_retries."
            )
        if exc is not None and not isinstance(exc, Exception):
            raise TypeError("retry() takes an exception as its exc: exc=error, or exc=ValueError('why').")
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and not isinstance(limit, int | float):
            raise TypeError("retry() takes a number as its max_retries, or None: the task's own.")
        error = run.out_of_retries(self, self.request.lease, limit=limit, exc=exc)
        if error is not None:
            self.request.out_of_retries = error
            raise error
        if exc is not None and exc.__context__ is None and exc is not sys.exception():
            # As if it had been raised here: staff see what the body was handling, and members nothing of a driver's.
            exc.__context__ = sys.exception()
        retry = Retry(exc=exc and presentable(exc), when=self._next_try(eta, countdown))
        self.request.retry_within_limit = retry
        if throw:
            raise retry
        return retry

    def snooze(self, delay: float, *, limited: bool = True) -> run.Snooze:
        """For `raise self.snooze(60)` in a durable job: roll back, and run again in so many seconds, without using up a
        try.

        A job that was snoozed JOB_MAX_SNOOZES times is dead. `limited=False` lifts that limit, for a body that waits
        for its turn behind others, however many they are. Raises TypeError for a plain task, TypeError or ValueError
        for what is no such number, RuntimeError in another thread than the body's.
        """
        self._refuse_other_thread("snooze")
        if not is_durable(self.request):
            raise TypeError("Only a durable job can be snoozed: use retry(), or dispatch with delay_on_commit.")
        return run.Snooze(seconds(delay, "delay"), limited=limited)

    def _refuse_other_thread(self, method: str) -> None:
        # Celery keeps a request for the thread that runs it. In a helper thread the job would look like a function
        # call, and no lease would fence what that commits. A true function call has a request of its own.
        if self.request_stack.top is None and run.is_running(self):
            raise RuntimeError(
                f"self.{method}() belongs in the thread of the body: this one knows of no job. "
                "Let the helper return what it found, and go on in the body."
            )

    def _next_try(self, eta: datetime | None, countdown: float | None) -> datetime | float:
        if eta is not None:
            return moment(eta, "eta")
        return seconds(self.default_retry_delay if countdown is None else countdown, "countdown").total_seconds()

    def replace(self, sig: Signature[Any]) -> Any:
        """Like Celery's `replace`. Raises TypeError for a durable job, ValueError for a signature of another tenant."""
        if is_durable(self.request):
            raise TypeError("A durable job can't be replaced: dispatch the other task with delay_on_commit and return.")
        home = schema_of(self.request)
        if strangers := schemas_of(sig) - {home}:
            # Its result would be there, and here the task would be started for ever.
            raise ValueError(f"A task of schema {home!r} can't be replaced by one of {min(strangers)!r}.")
        return super().replace(sig)


def name_in_log(sender: Any, task_id: str, **kwargs: Any) -> None:
    """Before each task: let each log line of it name it, its tenant, and the request that called it."""
    if not sender.request.is_eager:
        header = header_of(sender.request)
        structlog.contextvars.bind_contextvars(job_id=task_id, tenant=header.get("schema"))
        if header.get("request_id"):
            structlog.contextvars.bind_contextvars(request_id=header["request_id"])


def leave_schema(sender: Any, **kwargs: Any) -> None:
    """After each task, whatever its end: nothing of its tenant stays on this thread."""
    if not sender.request.is_eager:
        structlog.contextvars.clear_contextvars()
        end_owner()
        if runs_in_greenlets():
            connection.close()  # a greenlet ends with its task, and nobody else can use its connection
