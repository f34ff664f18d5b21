"""The dispatch side of durable jobs: rows in the caller's transaction. The row is the dispatch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any

from celery import current_app
from celery.canvas import Signature, maybe_signature
from celery.utils.functional import maybe_list
from django.db import connections
from django.db.transaction import TransactionManagementError
from structlog.contextvars import get_contextvars

from jobs import statements
from jobs.codec import PLAIN, encode, encode_links
from jobs.errors import storable
from jobs.message import OPTION
from jobs.schema import TenantUnavailable
from jobs.times import moment, seconds
from tenants.connection import connection, execute, fetch_one
from tenants.ids import new_id

BATCH = 1000
#: Characters, as the columns have it.
MAX_TASK, MAX_REQUEST_ID = 255, 64
OPTIONS = {"countdown", "eta", "expires", "link", "link_error", "time_limit", "soft_time_limit"}

Call = tuple[Sequence[Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the jobs of one dispatch have in common: their task, when they are due, and what follows them."""

    task: str
    due: datetime | timedelta
    expires: datetime | timedelta | None
    link: str
    link_error: str
    soft_limit: float | None
    hard_limit: float | None

    @classmethod
    def of(cls, task: str, options: Mapping[str, Any], *, expires: float | None = None) -> "Terms":
        """`expires` is the task's own default in seconds, for options that have none.

        Raises TypeError for what can't be durable, ValueError for times that can't be, TransactionManagementError in a
        transaction of another database.
        """
        _refuse_other_database()
        return cls.checked(task, options, expires) if options else _terms_of_a_task(task, expires)

    @classmethod
    def checked(cls, task: str, options: Mapping[str, Any], expires: float | None) -> "Terms":
        """As `of`, in whatever transaction."""
        if refused := set(options) - OPTIONS:
            raise TypeError(
                f"A durable job takes no {', '.join(sorted(refused))}: it has a queue and a line of its own. "
                f"What it takes: {', '.join(sorted(OPTIONS))}."
            )
        eta, countdown, expires = options.get("eta"), options.get("countdown"), options.get("expires", expires)
        if eta is not None and countdown is not None:
            raise TypeError("Give a durable job an eta or a countdown, not both.")
        return cls(
            task=checked_name(task),
            due=moment(eta, "eta") if eta is not None else seconds(0 if countdown is None else countdown, "countdown"),
            expires=_expires(expires),
            link=_links(options.get("link")),
            link_error=_links(options.get("link_error")),
            soft_limit=_limit(options, "soft_time_limit"),
            hard_limit=_limit(options, "time_limit"),
        )

    @classmethod
    def of_link(cls, signature: Signature[Any]) -> "Terms":
        """Raises ImproperlyConfigured, too, for a task that knows no tenants."""
        encode([signature.args, signature.kwargs])
        options = {name: value for name, value in signature.options.items() if name != OPTION}
        # A task that only the workers know may be linked to.
        registered = current_app.tasks.get(signature.task)
        current_app.refuse_foreign(registered)
        return cls.of(signature.task, options, expires=registered and registered.expires)

    def parameters(self) -> dict[str, Any]:
        """For the statements that insert jobs: a time is absolute, or counts from the insertion."""
        absolute = isinstance(self.due, datetime)
        expires_absolutely = isinstance(self.expires, datetime)
        return {
            "task": self.task,
            "eta": self.due if absolute else None,
            "countdown": timedelta() if absolute else self.due,
            "immediate": not self.due,
            "expires_at": self.expires if expires_absolutely else None,
            "expires_in": None if expires_absolutely else self.expires,
            "link": self.link,
            "link_error": self.link_error,
            "soft_limit": self.soft_limit,
            "hard_limit": self.hard_limit,
            "request_id": storable(str(get_contextvars().get("request_id", "")), MAX_REQUEST_ID)[:MAX_REQUEST_ID],
        }


# Nearly all dispatches have no options, and checking them again takes as long as inserting one does on the client.
@lru_cache(maxsize=1000, typed=True)
def _terms_of_a_task(task: str, expires: float | None) -> Terms:
    return Terms.checked(task, {}, expires)


def insert_one(terms: Terms, args: Sequence[Any], kwargs: Mapping[str, Any], *, schema: str) -> str:
    """Write a job in the current transaction; the job's id.

    Raises TypeError if an argument is no JSON, and DataError if no tenant has the schema.
    """
    job_id = str(new_id())
    call = {"id": job_id, "args": encode(args), "kwargs": encode(kwargs), "schema": schema}
    execute(statements.INSERT, {**terms.parameters(), **call})
    return job_id


def insert_many(terms: Terms, calls: Iterable[Call], *, schema: str, codec: int = PLAIN) -> list[str]:
    """Write one job for each call, in batches, in the current transaction; their ids in the order of the calls.

    `codec` says how the arguments are to be read: what comes out of a link's row is in that row's.

    Raises TenantUnavailable if no tenant has the schema, and the transaction lives on; TypeError if an argument is no
    JSON.
    """
    ids: list[str] = []
    for batch in _batches(calls):
        columns = {
            "ids": [str(new_id()) for _ in batch],
            "args": [encode(args) for args, _ in batch],
            "kwargs": [encode(kwargs) for _, kwargs in batch],
        }
        inserted = execute(statements.INSERT_MANY, {**terms.parameters(), **columns, "schema": schema, "codec": codec})
        if inserted != len(batch):
            raise TenantUnavailable(f"No tenant has the schema {schema!r}, so no job can belong to it.")
        ids += columns["ids"]
    return ids


def insert_for_each_tenant(terms: Terms, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Write one job in each active tenant, by one statement; how many."""
    call = {"args": encode(args), "kwargs": encode(kwargs)}
    [dispatched] = fetch_one(statements.INSERT_FOR_EACH_TENANT, {**terms.parameters(), **call})
    return int(dispatched)


def insert_run(schedule: str, terms: Terms, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Write the run of a schedule, in `public`; False if an earlier one waits still, which stands for both then."""
    call = {"id": str(new_id()), "args": encode(args), "kwargs": encode(kwargs), "schedule": schedule}
    [is_new] = fetch_one(statements.INSERT_RUN, {**terms.parameters(), **call})
    return bool(is_new)


def _refuse_other_database() -> None:
    # The job would be committed at once, whatever became of the work that it belongs to.
    if connection.in_atomic_block:
        return
    for other in connections.all(initialized_only=True):
        if other.in_atomic_block:
            raise TransactionManagementError(
                f"A transaction is open on the database {other.alias!r}, and not on {connection.alias!r}. Durable jobs "
                f"are rows of {connection.alias!r}: dispatch them in a transaction there."
            )


def _batches(calls: Iterable[Call]) -> Iterator[list[Call]]:
    rest = iter(calls)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _links(links: Any) -> str:
    return encode_links([_single(link) for link in maybe_list(links)]) if links else "[]"


def _single(link: Any) -> Signature[Any]:
    signature = maybe_signature(link, app=current_app) if isinstance(link, Mapping) else None
    if signature is None or not _is_single(signature):
        raise TypeError(f"A durable job links to signatures of single tasks, not to {link!r}.")
    Terms.of_link(signature)  # raises what the link's own dispatch would
    return signature


def _is_single(signature: Signature[Any]) -> bool:
    return bool(signature.task) and isinstance(signature.options, Mapping) and signature.subtask_type is None


def checked_name(task: Any) -> str:
    """The name of a task. Raises TypeError for one that no row can keep."""
    if not isinstance(task, str) or len(task) > MAX_TASK or task != storable(task, MAX_TASK):
        raise TypeError(f"A durable job's task has a name of at most {MAX_TASK} characters, without NUL.")
    return task


def _expires(value: Any) -> datetime | timedelta | None:
    if value is None or isinstance(value, int | float):
        return None if value is None else seconds(value, "expires")
    return moment(value, "expires")


def _limit(options: Mapping[str, Any], name: str) -> float | None:
    value = options.get(name)
    return None if value is None else seconds(value, name).total_seconds()
