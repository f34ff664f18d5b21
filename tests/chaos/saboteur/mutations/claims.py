"""The claim, and the gate behind it."""

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import InterfaceError, OperationalError

from jobs import execution, lease, schema, task
from tenants.connection import connection
from tests.chaos.saboteur.mutations.endings import completion_unfenced
from tests.chaos.saboteur.mutations.ways import edit, execute, mutation
from tests.chaos.saboteur.points import note, wrap


@mutation
def claim_in_any_tenant() -> None:
    edit(lease, "CLAIM", lease.OPEN, "true")
    edit(lease, "GATE", lease.OPEN, "true")


@mutation
def claim_before_due() -> None:
    edit(lease, "CLAIM", "due_at <= clock_timestamp()", "true")


@mutation
def claim_by_the_workers_clock() -> None:
    edit(lease, "CLAIM", "due_at <= clock_timestamp()", "due_at <= to_timestamp(%(now)s)")
    wrap(lease, "_fetch", lambda fetch, statement, terms: fetch(statement, {**terms, "now": time.time()}))


@mutation
def claim_repeated_with_another_token() -> None:
    """Who repeats a claim, for want of a reply, meets the lease of the first."""

    def claim(claim: Callable[..., Any], id: str, **terms: Any) -> Any:
        try:
            return claim(id, **terms)
        except (InterfaceError, OperationalError):
            connection.close()
            return claim(id, **{**terms, "token": str(uuid.uuid4())})

    wrap(lease, "healed", lambda healed, statement: statement())
    wrap(lease, "claim", claim)


@mutation
def claim_keeps_next_send() -> None:
    """Nobody sends a killed worker's job again."""
    edit(lease, "CLAIM", "next_send_at = clock_timestamp()", "next_send_at = interval '1 day' + clock_timestamp()")


@mutation
def claim_not_flushed() -> None:
    """A crash of the database forgets an attempt that has called the outside world."""
    edit(lease, "CLAIM", "WHEN %(atomic)s AND sends <= 1 THEN", "WHEN true OR %(atomic)s THEN")


@mutation
def claim_deletes() -> None:
    """At most once."""
    completion_unfenced()

    def claim(claim: Callable[..., Any], id: str, **terms: Any) -> Any:
        held = claim(id, **terms)
        execute("DELETE FROM public.jobs_job WHERE id = %s", id)
        return held

    wrap(lease, "claim", claim)
    wrap(lease, "pass_gate", lambda pass_gate, held: True)


@mutation
def no_gate() -> None:
    wrap(lease, "pass_gate", lambda pass_gate, held: pass_gate(held) or _note_body(held))


def _note_body(held: lease.Lease) -> bool:
    note("began", job=held.id, task=held.task, home=held.schema)
    return True


@mutation
def body_in_public() -> None:
    def claim(claim: Callable[..., Any], id: str, **terms: Any) -> Any:
        held = claim(id, **terms)
        return held and replace(held, schema="public")

    wrap(lease, "claim", claim)


@mutation
def no_healing() -> None:
    """A connection that the database has ended stays as it is."""
    for module in (lease, execution, schema):
        wrap(module, "healed", lambda healed, statement: statement())
    for module in (execution, schema, task):
        wrap(module, "clean", lambda clean: connection.set_schema_to_public())
