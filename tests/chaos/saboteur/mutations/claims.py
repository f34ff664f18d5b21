"""The claim, and the gate behind it."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jobs import claim, statements, transient
from jobs.claim import Lease
from tests.chaos.saboteur.mutations.endings import completion_unfenced
from tests.chaos.saboteur.mutations.ways import edit, edit_function, execute, mutation
from tests.chaos.saboteur.points import note, wrap


@mutation
def claim_in_any_tenant() -> None:
    edit_function("jobs_claim", "tenant.status = 'active'", "true")
    edit_function("jobs_pass_gate", "home.status = 'active'", "true")


@mutation
def claim_before_due() -> None:
    edit_function("jobs_claim", "due_at <= clock_timestamp()", "true")


@mutation
def claim_by_the_workers_clock() -> None:
    now = "to_timestamp(current_setting('chaos.now')::float8)"
    edit_function("jobs_claim", "due_at <= clock_timestamp()", f"due_at <= {now}")

    def fetch_by_clock(fetch: Callable[..., Any], statement: str, terms: Any) -> Any:
        execute("SELECT set_config('chaos.now', %s, false)", str(time.time()))
        return fetch(statement, terms)

    wrap(claim, "fetch_one", fetch_by_clock)


@mutation
def claim_keeps_next_send() -> None:
    """Nobody sends a killed worker's job again."""
    edit_function(
        "jobs_claim", "next_send_at = clock_timestamp()", "next_send_at = interval '1 day' + clock_timestamp()"
    )


@mutation
def claim_not_flushed() -> None:
    """A crash of the database forgets an attempt that has called the outside world."""
    edit_function("jobs_claim", "WHEN is_atomic AND sends <= 1 THEN", "WHEN true THEN")


@mutation
def claim_deletes() -> None:
    """At most once."""
    completion_unfenced()

    def claim_and_delete(claim_job: Callable[..., Any], job_id: str, **terms: Any) -> Any:
        held = claim_job(job_id, **terms)
        execute("DELETE FROM public.jobs_job WHERE id = %s", job_id)
        return held

    wrap(claim, "claim", claim_and_delete)
    wrap(claim, "pass_gate", lambda pass_gate, held: True)


@mutation
def no_gate() -> None:
    wrap(claim, "pass_gate", lambda pass_gate, held: pass_gate(held) or _note_body(held))


def _note_body(held: Lease) -> bool:
    note("began", job=held.id, task=held.task, home=held.schema)
    return True


@mutation
def body_in_public() -> None:
    def claim_in_public(claim_job: Callable[..., Any], job_id: str, **terms: Any) -> Any:
        held = claim_job(job_id, **terms)
        return held and replace(held, schema="public")

    wrap(claim, "claim", claim_in_public)


@mutation
def lost_worker_keeps_its_locks() -> None:
    edit(statements, "END_LOST_SESSION", "pg_terminate_backend(pid)", "pid")


@mutation
def renewal_asks_for_the_lease() -> None:
    """Whose lease ran out in an outage does not get it back."""
    edit(statements, "RENEW", "AND state = 'waiting'", "AND state = 'waiting' AND lease_until > clock_timestamp()")


@mutation
def unknown_task_is_sent_ever_later() -> None:
    edit(statements, "MARK_UNKNOWN", "clock_timestamp() + %(delay)s", "clock_timestamp() + 1000 * %(delay)s")


@mutation
def nothing_passes() -> None:
    transient.PASSING = re.compile("never")
