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

# Start-time fair queueing: a tenant's next job stands one place behind its last one, and never before what the line has
# come to, so that tenants with work take turns however much one of them queues.
# Ordered by the tenant too, as an index is: max() may read the whole line.
AFTER_OWN = """
    (SELECT own.tag + 1 FROM public.jobs_job own WHERE own.tag IS NOT NULL AND own.tenant_id {home}
     ORDER BY own.tenant_id DESC, own.tag DESC LIMIT 1)
"""
NEXT_TAG = """
    greatest(
        (SELECT first.tag FROM public.jobs_job first WHERE first.tag IS NOT NULL ORDER BY first.tag, first.seq LIMIT 1),
        {after_own},
        0
    )
"""

# What the jobs are called with: arrays, or the elements of one; either way one statement, but one row plans sooner.
MANY = "unnest(%(ids)s::uuid[], %(args)s::text[], %(kwargs)s::text[]) WITH ORDINALITY AS call (id, args, kwargs, place)"
ONE = "(SELECT %(id)s::uuid AS id, %(args)s AS args, %(kwargs)s AS kwargs, 1 AS place) AS call"
DUE_AT = "coalesce(%(eta)s::timestamptz, clock_timestamp() + %(countdown)s)"
# Materialized, or the place in line would be looked up again for each of the rows.
INSERT = f"""
    WITH home AS MATERIALIZED (SELECT id, {NEXT_TAG.format(after_own="{after_own}")} AS tag FROM {{home}})
    INSERT INTO public.jobs_job (
        id, tenant_id, task, args, kwargs, link, link_error, soft_limit, hard_limit, request_id, due_at, next_send_at,
        expires_at, tag, state, attempt, retries, kills, lost, sends, error, traceback, created_at
    )
    SELECT
        coalesce(call.id, gen_random_uuid()), home.id, %(task)s, call.args, call.kwargs, %(link)s, %(link_error)s,
        %(soft_limit)s::float, %(hard_limit)s::float, %(request_id)s, {DUE_AT}, {DUE_AT},
        coalesce(%(expires_at)s::timestamptz, clock_timestamp() + %(expires_in)s::interval),
        CASE WHEN %(immediate)s THEN home.tag + call.place - 1 END,
        'waiting', 0, 0, 0, 0, 0, '', '', clock_timestamp()
    FROM home, {{calls}}
"""


def _insert_into(home: str, *, after_own: str) -> tuple[str, str]:
    """The statements for one call and for many."""
    own = AFTER_OWN.format(home=after_own)
    return INSERT.format(home=home, after_own=own, calls=ONE), INSERT.format(home=home, after_own=own, calls=MANY)


IN_PUBLIC = _insert_into("(SELECT NULL::uuid AS id) AS home", after_own="IS NULL")
IN_TENANT = _insert_into("public.tenants_tenant home WHERE schema_name = %(schema)s", after_own="= home.id")
IN_EACH_TENANT, _ = _insert_into("public.tenants_tenant home WHERE status = 'active'", after_own="= home.id")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the jobs of one dispatch have in common: their task, when they are due, and what follows them."""

    task: str
    eta: datetime | None
    countdown: timedelta
    expires: datetime | timedelta | None
    link: str
    link_error: str
    soft_limit: float | None
    hard_limit: float | None

    @classmethod
    def of(cls, task: str, options: Mapping[str, Any]) -> "Terms":
        """Raises TypeError for what can't be durable, ImproperlyConfigured for a task that knows no tenants,
        TransactionManagementError in a transaction of another database.
        """
        _refuse_elsewhere()
        if refused := set(options) - OPTIONS:
            raise TypeError(
                f"A durable job takes no {', '.join(sorted(refused))}: it has a queue and a line of its own. "
                f"What it takes: {', '.join(sorted(OPTIONS))}."
            )
        eta, countdown = options.get("eta"), options.get("countdown")
        if eta is not None and countdown is not None:
            raise TypeError("Give a durable job an eta or a countdown, not both.")
        # A task that only the workers know may be linked to.
        registered = current_app.tasks.get(task)
        current_app.refuse_foreign(registered)
        expires = options.get("expires", registered and registered.expires)
        return cls(
            task=task,
            eta=_aware(eta, "eta"),
            countdown=_seconds(countdown) or timedelta(),
            expires=_aware(expires, "expires") if isinstance(expires, datetime) else _seconds(expires),
            link=_links(options.get("link")),
            link_error=_links(options.get("link_error")),
            soft_limit=_limit(options.get("soft_time_limit")),
            hard_limit=_limit(options.get("time_limit")),
        )

    @classmethod
    def of_link(cls, signature: Signature[Any]) -> "Terms":
        options = {name: value for name, value in signature.options.items() if name != OPTION}
        return cls.of(signature.task, options)

    def parameters(self) -> dict[str, Any]:
        absolute = isinstance(self.expires, datetime)
        return {
            "task": self.task,
            "eta": self.eta,
            "countdown": self.countdown,
            "immediate": self.eta is None and not self.countdown,
            "expires_at": self.expires if absolute else None,
            "expires_in": None if absolute else self.expires,
            "link": self.link,
            "link_error": self.link_error,
            "soft_limit": self.soft_limit,
            "hard_limit": self.hard_limit,
            "request_id": str(get_contextvars().get("request_id", "")),
        }


def insert(terms: Terms, calls: Iterable[Call], *, schema: str) -> list[str]:
    """Write one job for each call, in batches, in the current transaction; their ids in the order of the calls.

    Raises TenantUnavailable if no tenant has the schema, TypeError if an argument is no JSON.
    """
    one, many = IN_PUBLIC if schema == "public" else IN_TENANT
    ids: list[str] = []
    for batch in _batches(calls):
        batch_ids = [str(new_id()) for _ in batch]
        args, kwargs = [_json(args) for args, _ in batch], [_json(kwargs) for _, kwargs in batch]
        if len(batch) == 1:
            inserted = _execute(one, terms, id=batch_ids[0], args=args[0], kwargs=kwargs[0], schema=schema)
        else:
            inserted = _execute(many, terms, ids=batch_ids, args=args, kwargs=kwargs, schema=schema)
        if inserted != len(batch):
            raise TenantUnavailable(f"No tenant has the schema {schema!r}, so no job can belong to it.")
        ids += batch_ids
    return ids


def insert_for_each_tenant(terms: Terms, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Write one job in each active tenant, by one statement; how many."""
    return _execute(IN_EACH_TENANT, terms, id=None, args=_json(args), kwargs=_json(kwargs))


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
    with connection.cursor() as cursor:
        cursor.execute(statement, {**terms.parameters(), **parameters})
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


def _links(links: Any) -> str:
    return _json([_single(link) for link in maybe_list(links) or []])


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
