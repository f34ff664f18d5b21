"""Who may run a job: the claim, which takes its lease, and the gate, which its body passes."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

from django.conf import settings

from jobs import statements
from jobs.celery_hooks.internals import runs_in_a_childs_process
from jobs.codec import decode
from tenants.connection import connection, execute, fetch_one, retry_on_broken_connection

T = TypeVar("T")
#: The first half of the advisory lock's key; the second is the tenant's.
TENANT_LOCK = 0x7E4A
#: The longest time-out that PostgreSQL knows, in milliseconds: 24 days.
MAX_GUARD = 2**31 - 1
#: No worker's token.
NO_TOKEN = str(uuid.UUID(int=0))


@dataclass(frozen=True)
class Lease:
    """A claimed job. Its token is the fence: a statement that ends the attempt names it, or changes nothing.

    `find` makes one of a job that the caller has not claimed; its token is NO_TOKEN then, and fences everything off.
    """

    id: str
    token: str
    task: str
    tenant_id: uuid.UUID | None
    schema: str
    codec: int
    args_text: str
    kwargs_text: str
    link_text: str
    link_error_text: str
    attempt: int
    retries: int
    transients: int
    snoozes: int
    created_at: datetime
    #: Seconds that the body may take; 0 for a job that the caller has not claimed
    hard_limit: float = 0

    @property
    def key(self) -> dict[str, str]:
        """What a fenced statement needs to know."""
        return {"id": self.id, "token": self.token}

    # Decoded when a body or a link needs them. Nobody else may fail for a row that somebody has changed.

    @cached_property
    def args(self) -> list[Any]:
        """Raises ValueError if the row's text makes no sense."""
        return _checked(decode(self.args_text, self.codec), list)

    @cached_property
    def kwargs(self) -> dict[str, Any]:
        """Raises ValueError if the row's text makes no sense."""
        return _checked(decode(self.kwargs_text, self.codec), dict)

    @cached_property
    def link(self) -> list[dict[str, Any]]:
        """Signatures; their arguments stay in the row's codec. Raises ValueError if the text makes no sense."""
        return _checked(decode(self.link_text), list)

    @cached_property
    def link_error(self) -> list[dict[str, Any]]:
        """As `link`."""
        return _checked(decode(self.link_error_text), list)


def claim(job_id: str, *, task: str, token: str, hard_limit: float, atomic: bool = False) -> Lease | None:
    """Take the lease of a job. It is committed before this returns: to the disk, unless this is the first attempt of an
    `atomic` job.

    Where the worker's parent process renews leases, this one is short. Elsewhere it lasts for `hard_limit` seconds and
    the margin.

    None means that nothing may run: a duplicate, an early message, an inactive tenant, a job that has ended. A repeat
    with the same token (after a lost reply) takes the same lease again, and counts no second attempt.
    """
    limit = hard_limit + settings.JOB_LEASE_MARGIN
    parameters = {
        "id": job_id,
        "task": task,
        "token": token,
        "atomic": atomic,
        "lease": timedelta(seconds=min(settings.JOB_LEASE, limit) if runs_in_a_childs_process() else limit),
        "limit": timedelta(seconds=limit),
        "renewal_interval": timedelta(seconds=settings.JOB_RENEWAL_INTERVAL),
        **poison_limits(),
    }
    row = retry_on_broken_connection(lambda: fetch_one(statements.CLAIM, parameters))
    if row is None:
        return None
    *columns, token_before, _ = row
    if token_before is not None and str(token_before) != token:
        retry_on_broken_connection(lambda: execute(statements.END_LOST_SESSION, {"token": str(token_before)}))
    return _lease(columns, job_id=job_id, task=task, token=token, hard_limit=hard_limit)


def renew(leases: Mapping[str, str]) -> int:
    """Prolong the leases of jobs that this worker runs, but none beyond its job's limit; how many.

    `leases` has the id of the job of each token.
    """
    lease = timedelta(seconds=settings.JOB_LEASE)
    parameters = {"ids": list(leases.values()), "tokens": list(leases), "lease": lease}
    return execute(statements.RENEW, parameters)


def may_take_over() -> bool:
    """Whether this process may take jobs from workers whose leases have run out.

    It may not just after it has connected: an outage may be over, and those workers need a moment to renew.
    """
    connection.ensure_connection()
    age: float = time.monotonic() - connection.connection.connected_at
    return age >= float(settings.JOB_RENEWAL_INTERVAL)


def find(job_id: str, *, task: str, token: str = NO_TOKEN) -> Lease | None:
    """What a row says of its job, for somebody who did not claim it: the parent of the process that did, and the relay.

    None if the row, or its tenant, is gone.
    """
    row = fetch_one(statements.FIND, {"id": job_id})
    return _lease(row, job_id=job_id, task=task, token=token) if row else None


def pass_gate(lease: Lease) -> bool:
    """Whether the body may start. No deletion of its tenant begins before this transaction ends."""
    [passed] = fetch_one(statements.GATE, {**lease.key, **_lock_key(lease), **_idle(lease)})
    return bool(passed)


def begin_completion(lease: Lease) -> None:
    """Keep the tenant from being dropped, and this transaction open for as long as the job may run."""
    begins = [statements.GUARD, statements.HOLD_BY_TOKEN]
    if lease.tenant_id is not None:
        begins.append(statements.SHARE_TENANT)
    execute("; ".join(begins), {**lease.key, **_lock_key(lease), **_idle(lease)})


def lock_tenant(lease: Lease) -> None:
    """Keep the tenant from being dropped before this transaction ends.

    This comes before any job's row is locked, since a deletion takes the tenant first and then its jobs.
    """
    if lease.tenant_id is not None:
        fetch_one(statements.SHARE_TENANT, _lock_key(lease))


def poison_limits() -> dict[str, int]:
    """How often a job's child may be killed, and its worker vanish, before it is poison."""
    return {"max_kills": settings.JOB_MAX_KILLS, "max_lost": settings.JOB_MAX_LOST}


def unknown_for() -> timedelta:
    """For how long a job waits for a worker that knows its task."""
    return timedelta(hours=settings.JOB_UNKNOWN_TASK_HOURS)


def _checked(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"Somebody has changed this job's row: it has {type(value).__name__} for a {kind.__name__}.")
    return value


def _lock_key(lease: Lease) -> dict[str, Any]:
    return {"class": TENANT_LOCK, "tenant": None if lease.tenant_id is None else str(lease.tenant_id)}


def _idle(lease: Lease) -> dict[str, str]:
    # Its transaction ends before its lease does, and another worker waits for its locks.
    milliseconds = 1000 * (lease.hard_limit + settings.JOB_LEASE_MARGIN / 2)
    return {"idle": f"{int(min(milliseconds, MAX_GUARD))}ms"}


def _lease(row: Sequence[Any], *, job_id: str, task: str, token: str, hard_limit: float = 0) -> Lease:
    tenant_id, schema, codec, args, kwargs, link, link_error, *counts = row
    attempt, retries, transients, snoozes, created_at = counts
    return Lease(
        id=job_id,
        token=token,
        task=task,
        tenant_id=tenant_id,
        schema=schema,
        codec=codec,
        args_text=args,
        kwargs_text=kwargs,
        link_text=link,
        link_error_text=link_error,
        attempt=attempt,
        retries=retries,
        transients=transients,
        snoozes=snoozes,
        created_at=created_at,
        hard_limit=hard_limit,
    )
