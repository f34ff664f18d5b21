"""The dispatch side of durable jobs: rows in the caller's transaction. The row is the dispatch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from celery import current_app
from celery.canvas import Signature, maybe_signature
from celery.utils.functional import maybe_list
from django.db import connections
from django.db.transaction import TransactionManagementError
from kombu.utils.json import dumps
from structlog.contextvars import get_contextvars

from jobs.app import OPTION
from jobs.schema import TenantUnavailable
from tenants.connection import connection
from tenants.ids import new_id

BATCH = 1000
OPTIONS = {"countdown", "eta", "expires", "link", "link_error", "time_limit", "soft_time_limit"}

Call = tuple[Sequence[Any], Mapping[str, Any]]


def _insert(
    source: str,
    *,
    id: str = "%(id)s",
    args: str = "%(args)s",
    kwargs: str = "%(kwargs)s",
    tag: str = "public.jobs_next_tag(home.id)",
) -> str:
    """A statement that writes a job for each row of the source. What is left in braces is up to `Terms.applied_to`."""
    return f"""
        INSERT INTO public.jobs_job (
            id, tenant_id, task, args, kwargs, link, link_error, soft_limit, hard_limit, request_id,
            due_at, next_send_at, expires_at, tag,
            state, attempt, retries, kills, lost, sends, error, traceback, created_at
        )
        SELECT
            {id}, home.id, %(task)s, {args}, {kwargs}, %(link)s, %(link_error)s, %(soft_limit)s, %(hard_limit)s,
            %(request_id)s, {{due_at}}, {{due_at}}, {{expires_at}}, CASE WHEN %(immediate)s THEN {tag} END,
            'waiting', 0, 0, 0, 0, 0, '', '', clock_timestamp()
        FROM {source}
    """


def _insert_many(source: str) -> str:
    # Materialized, or the place in line would be looked up again for each call.
    return f"WITH home AS MATERIALIZED (SELECT id, public.jobs_next_tag(id) AS tag FROM {source})" + _insert(
        "home, unnest(%(ids)s::uuid[], %(args)s::text[], %(kwargs)s::text[]) WITH ORDINALITY"
        " AS call (id, args, kwargs, place)",
        id="call.id",
        args="call.args",
        kwargs="call.kwargs",
        tag="home.tag + call.place - 1",
    )


PUBLIC = "(SELECT NULL::uuid AS id) AS home"
TENANT = "public.tenants_tenant AS home WHERE schema_name = %(schema)s"
EACH_TENANT = "public.tenants_tenant AS home, public.jobs_next_tags(home.id) AS next WHERE status = 'active'"
# For what goes with another statement, so that nobody counts what it inserts: without a tenant, this raises on the
# server, by a cast to what the text is not. No constant text: that would be cast when the statement is planned.
TENANT_OR_ERROR = """(
    SELECT coalesce(tenant.id, concat(%(task)s, ' was called in the schema ', %(schema)s, ', of no tenant')::uuid) AS id
    FROM (SELECT) AS here LEFT JOIN public.tenants_tenant tenant ON schema_name = %(schema)s
) AS home"""

ONE_IN_PUBLIC = _insert(PUBLIC)
ONE_IN_TENANT = _insert(TENANT_OR_ERROR)
ONE_IN_EACH_TENANT = _insert(EACH_TENANT, id="gen_random_uuid()", tag="next.tag")
MANY_IN_PUBLIC = _insert_many(PUBLIC)
MANY_IN_TENANT = _insert_many(TENANT)


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
        """`expires`, in seconds: the task's own, for options without. Raises TypeError for what can't be durable,
        TransactionManagementError in a transaction of another database.
        """
        _refuse_elsewhere()
        if refused := set(options) - OPTIONS:
            raise TypeError(
                f"A durable job takes no {', '.join(sorted(refused))}: it has a queue and a line of its own. "
                f"What it takes: {', '.join(sorted(OPTIONS))}."
            )
        eta, countdown, expires = options.get("eta"), options.get("countdown"), options.get("expires", expires)
        if eta is not None and countdown is not None:
            raise TypeError("Give a durable job an eta or a countdown, not both.")
        return cls(
            task=task,
            due=_aware(eta, "eta") or _seconds(countdown) or timedelta(),
            expires=_aware(expires, "expires") if isinstance(expires, datetime) else _seconds(expires),
            link=_links(options.get("link")),
            link_error=_links(options.get("link_error")),
            soft_limit=_limit(options.get("soft_time_limit")),
            hard_limit=_limit(options.get("time_limit")),
        )

    @classmethod
    def of_link(cls, signature: Signature[Any]) -> "Terms":
        """Raises ImproperlyConfigured, too, for a task that knows no tenants."""
        options = {name: value for name, value in signature.options.items() if name != OPTION}
        # A task that only the workers know may be linked to.
        registered = current_app.tasks.get(signature.task)
        current_app.refuse_foreign(registered)
        return cls.of(signature.task, options, expires=registered and registered.expires)

    def applied_to(self, statement: str) -> str:
        return statement.format(due_at=_in_sql(self.due, "due"), expires_at=_in_sql(self.expires, "expires"))

    def parameters(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "due": self.due,
            "immediate": not self.due,
            "expires": self.expires,
            "link": self.link,
            "link_error": self.link_error,
            "soft_limit": self.soft_limit,
            "hard_limit": self.hard_limit,
            "request_id": str(get_contextvars().get("request_id", "")),
        }


def insert_one(terms: Terms, args: Sequence[Any], kwargs: Mapping[str, Any], *, schema: str) -> str:
    """Write a job in the current transaction, in one message with its next statement or COMMIT; the job's id.

    Raises TypeError if an argument is no JSON. If no tenant has the schema, that next statement raises DataError.
    """
    statement = ONE_IN_PUBLIC if schema == "public" else ONE_IN_TENANT
    job_id = str(new_id())
    call = {"id": job_id, "args": _json(args), "kwargs": _json(kwargs), "schema": schema}
    connection.send_with_next(terms.applied_to(statement), {**terms.parameters(), **call})
    return job_id


def insert_many(terms: Terms, calls: Iterable[Call], *, schema: str) -> list[str]:
    """Write one job for each call, in batches, in the current transaction; their ids in the order of the calls.

    Raises TenantUnavailable if no tenant has the schema, and the transaction lives on; TypeError if an argument is no
    JSON.
    """
    statement = MANY_IN_PUBLIC if schema == "public" else MANY_IN_TENANT
    ids: list[str] = []
    for batch in _batches(calls):
        batch_ids = [str(new_id()) for _ in batch]
        args, kwargs = [_json(args) for args, _ in batch], [_json(kwargs) for _, kwargs in batch]
        if _execute(statement, terms, ids=batch_ids, args=args, kwargs=kwargs, schema=schema) != len(batch):
            raise TenantUnavailable(f"No tenant has the schema {schema!r}, so no job can belong to it.")
        ids += batch_ids
    return ids


def insert_for_each_tenant(terms: Terms, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Write one job in each active tenant, by one statement; how many."""
    return _execute(ONE_IN_EACH_TENANT, terms, args=_json(args), kwargs=_json(kwargs))


def _refuse_elsewhere() -> None:
    # The job would be committed at once, whatever became of the work that it belongs to.
    if connection.in_atomic_block:
        return
    for other in connections.all(initialized_only=True):
        if other.in_atomic_block:
            raise TransactionManagementError(
                f"A transaction is open on the database {other.alias!r} alone. Durable jobs are rows of the database "
                f"{connection.alias!r}: dispatch them in a transaction there."
            )


def _execute(statement: str, terms: Terms, **parameters: Any) -> int:
    with connection.shared_cursor() as cursor:
        cursor.execute(terms.applied_to(statement), {**terms.parameters(), **parameters})
        return int(cursor.rowcount)


def _batches(calls: Iterable[Call]) -> Iterator[list[Call]]:
    rest = iter(calls)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _json(value: Any) -> str:
    try:
        return str(dumps(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"A durable job's arguments are ids and plain values: {error}.") from error


def _in_sql(when: datetime | timedelta | None, name: str) -> str:
    """A time, or so long from now, as the value of that parameter."""
    if when is None:
        return "NULL"
    if not when:
        return "clock_timestamp()"
    return f"%({name})s" if isinstance(when, datetime) else f"clock_timestamp() + %({name})s"


def _links(links: Any) -> str:
    return _json([_single(link) for link in maybe_list(links)]) if links else "[]"


def _single(link: Any) -> Signature[Any]:
    signature = maybe_signature(link, app=current_app) if isinstance(link, Mapping) else None
    if signature is None or signature.subtask_type is not None:
        raise TypeError(f"A durable job links to signatures of single tasks, not to {link!r}.")
    Terms.of_link(signature)  # raises what the link's own dispatch would
    return signature


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


def _limit(value: float | None) -> float | None:
    return None if value is None else timedelta(seconds=value).total_seconds()


def _aware(value: Any, name: str) -> datetime | None:
    if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
        raise TypeError(f"`{name}` is a datetime with a time zone, such as django.utils.timezone.now().")
    return value
