"""Ways to break the product, for chaos to find: CHAOS_MUTANT names one, and the processes start with it.

Each takes a clause out of a statement, or a step out of its place. A mutation that finds nothing to change raises.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery import states
from django.db import InterfaceError, OperationalError, transaction

import billing.gateways
from jobs import execution, lease, relay, results, schema, task, worker
from tenants.connection import connection
from tests.chaos.saboteur.faults import wrap

MUTATIONS: dict[str, Callable[[], None]] = {}


def mutation(function: Callable[[], None]) -> Callable[[], None]:
    MUTATIONS[function.__name__.replace("_", "-")] = function
    return function


def edit(module: Any, statement: str, old: str, new: str) -> None:
    text = getattr(module, statement)
    if old not in text:
        raise LookupError(f"{statement} has no {old!r} any more")
    setattr(module, statement, text.replace(old, new))


def execute(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description is not None else []


# Fences


@mutation
def completion_unfenced() -> None:
    """It does not raise when someone else holds the job."""
    edit(lease, "COMPLETE", "SELECT 1 / count(*)", "SELECT count(*)")


@mutation
def nothing_fenced() -> None:
    """A message is all that it takes to run a job."""
    completion_unfenced()
    edit(lease, "CLAIM", lease.FREE, "true")
    edit(lease, "GATE", lease.HELD, "id = %(id)s")


@mutation
def hand_back_by_id() -> None:
    """The parent of a child that never held the job frees it."""
    edit(lease, "HAND_BACK", "token = %(token)s", "%(token)s IS NOT NULL")


@mutation
def hand_back_counted() -> None:
    """Outages and deploys count like kills."""
    edit(lease, "HAND_BACK", "%(counted)s", "1 + 0 * %(counted)s")


@mutation
def kills_uncounted() -> None:
    edit(lease, "HAND_BACK", "%(counted)s", "0 * %(counted)s")


@mutation
def failure_stored_by_parent() -> None:
    """As Celery does it: what a killed child leaves behind is a FAILURE."""

    def hand_back(hand_back: Callable[..., None], request: Any) -> None:
        if held := request._lease():
            _store_failure(held)
        hand_back(request)

    wrap(worker.TenantRequest, "_hand_back", hand_back)


@mutation
def failure_after_a_look() -> None:
    """The connection is lost, and the row still there: so the job must have failed."""

    def settle(settle: Callable[..., bool], held: lease.Lease, ending: BaseException) -> bool:
        if isinstance(ending, execution.HandedBack) and execute("SELECT FROM public.jobs_job WHERE id = %s", held.id):
            _store_failure(held)
        return settle(held, ending)

    wrap(execution, "_settle", settle)


def _store_failure(held: lease.Lease) -> None:
    row = {**lease._result_row(held, states.FAILURE), **results.encoded("mutant")}
    results.store(held.schema, row)


@mutation
def lost_is_poison() -> None:
    """A worker that vanishes counts like a child that is killed."""
    wrap(lease, "limits", lambda limits: {**limits(), "max_lost": limits()["max_kills"]})


# The claim


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

    def fetch(fetch: Callable[..., Any], statement: str, terms: Any) -> Any:
        execute(f"SET synchronous_commit = {'off' if statement == lease.CLAIM else 'on'}")
        return fetch(statement, terms)

    wrap(lease, "_fetch", fetch)


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
    from tests.chaos.saboteur import faults

    faults.note("began", job=held.id, task=held.task, home=held.schema)
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


# Endings


@mutation
def completion_apart() -> None:
    """First the effects, then the job's end, in a transaction of its own."""

    def run_atomic(run_atomic: Callable[..., Any], own: task.TenantTask, held: lease.Lease) -> Any:
        with transaction.atomic(durable=True):
            lease.pass_gate(held)
            result = own.run(*held.args, **held.kwargs)
        with transaction.atomic(durable=True):
            lease.complete(held, result)
        return result

    wrap(execution, "_run_atomic", run_atomic)


@mutation
def completion_at_the_acknowledgement() -> None:
    """The job ends when its worker is through with the message."""
    edit(lease, "COMPLETE", "DELETE FROM public.jobs_job WHERE", "SELECT id FROM public.jobs_job WHERE")
    edit(lease, "COMPLETE", " RETURNING id", "")

    def run(run: Callable[..., Any], own: task.TenantTask, request: Any) -> Any:
        result = run(own, request)
        execute("DELETE FROM public.jobs_job WHERE id = %s", request.id)
        return result

    wrap(execution, "run", run)


@mutation
def hard_limit_unrecorded() -> None:
    wrap(worker.TenantRequest, "_bury", lambda bury, request, error: None)


@mutation
def new_key_at_each_try() -> None:
    def charge(charge: Callable[..., Any], gateway: Any, request: Any) -> Any:
        return charge(gateway, replace(request, idempotency_key=str(uuid.uuid4())))

    wrap(billing.gateways.HttpCardGateway, "charge", charge)


# The relay and the dispatch


@mutation
def send_deletes() -> None:
    def publish(publish: Callable[..., None], own: relay.Relay, due: list[relay.Due]) -> None:
        publish(own, due)
        execute("DELETE FROM public.jobs_job WHERE id = ANY(%s)", [job.id for job in due])

    wrap(relay.Relay, "_publish", publish)


@mutation
def never_sent_again() -> None:
    edit(relay, "MARK", "least(%(first)s *", "86400 + least(%(first)s *")


@mutation
def sent_without_a_mark() -> None:
    nothing_fenced()
    edit(relay, "MARK", "tag = NULL,", "tag = job.tag,")


@mutation
def no_unparking() -> None:
    edit(relay, "UNPARK", "WHERE", "WHERE false AND")


@mutation
def no_burying() -> None:
    wrap(relay, "bury_poisoned", lambda bury_poisoned: None)


@mutation
def published_before_the_commit() -> None:
    """Straight to the broker, at the call."""

    def dispatch(
        dispatch: Callable[..., str], own: task.TenantTask, args: Any = None, kwargs: Any = None, **terms: Any
    ) -> str:
        job_id = dispatch(own, args, kwargs, **terms)
        own.apply_async(args, kwargs, task_id=job_id, **terms)
        transaction.on_commit(lambda: execute("DELETE FROM public.jobs_job WHERE id = %s", job_id) and None)
        return job_id

    wrap(task.TenantTask, "apply_async_on_commit", dispatch)


@mutation
def published_after_the_commit() -> None:
    """As Django's documentation has it: straight to the broker, in a hook."""

    def dispatch(
        dispatch: Callable[..., str], own: task.TenantTask, args: Any = None, kwargs: Any = None, **terms: Any
    ) -> str:
        job_id = dispatch(own, args, kwargs, **terms)

        def publish() -> None:
            execute("DELETE FROM public.jobs_job WHERE id = %s", job_id)
            own.apply_async(args, kwargs, task_id=job_id, **terms)

        transaction.on_commit(publish, robust=True)
        return job_id

    wrap(task.TenantTask, "apply_async_on_commit", dispatch)
