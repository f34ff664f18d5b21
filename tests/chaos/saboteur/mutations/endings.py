"""How a job ends, and the fence that each ending has to pass."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery import states
from django.db import transaction

import billing.gateways
from jobs import claim, endings, results, run, statements, task
from jobs.claim import Lease
from jobs.relay import line, maintenance
from jobs.worker.request import TenantRequest
from tests.chaos.saboteur.mutations.ways import edit, edit_function, execute, mutation
from tests.chaos.saboteur.points import wrap


@mutation
def completion_unfenced() -> None:
    """It does not raise when someone else holds the job."""
    edit_function("jobs_complete", "IF NOT FOUND", "IF false")


@mutation
def nothing_fenced() -> None:
    """A message is all that it takes to run a job."""
    completion_unfenced()
    edit_function("jobs_claim", "token IS NULL\n", "true OR token IS NULL\n")
    edit_function("jobs_pass_gate", "AND token = by AND state = 'waiting'", "")


@mutation
def completion_apart() -> None:
    """First the effects, then the job's end, in a transaction of its own."""

    def run_atomic(run_atomic: Callable[..., Any], own: task.TenantTask, held: Lease) -> Any:
        with transaction.atomic(durable=True):
            claim.pass_gate(held)
            result = own.run(*held.args, **held.kwargs)
        with transaction.atomic(durable=True):
            endings.complete(held, result)
        return result

    wrap(run, "_run_atomic", run_atomic)


@mutation
def completion_at_the_acknowledgement() -> None:
    """The job ends when its worker is through with the message."""
    edit_function("jobs_complete", "DELETE FROM public.jobs_job WHERE", "PERFORM id FROM public.jobs_job WHERE")

    def run_and_delete(run_job: Callable[..., Any], own: task.TenantTask, request: Any) -> Any:
        result = run_job(own, request)
        execute("DELETE FROM public.jobs_job WHERE id = %s", request.id)
        return result

    wrap(run, "run", run_and_delete)


@mutation
def new_key_at_each_try() -> None:
    def charge(charge: Callable[..., Any], gateway: Any, request: Any) -> Any:
        return charge(gateway, replace(request, idempotency_key=str(uuid.uuid4())))

    wrap(billing.gateways.HttpCardGateway, "charge", charge)


@mutation
def failure_stored_by_parent() -> None:
    """As Celery does it: what a killed child leaves behind is a FAILURE."""

    def hand_back(hand_back: Callable[..., None], request: Any) -> None:
        if held := request._lease():
            _store_failure(held)
        hand_back(request)

    wrap(TenantRequest, "_hand_back", hand_back)


@mutation
def failure_after_a_look() -> None:
    """The connection is lost, and the row still there: so the job must have failed."""

    def settle(settle: Callable[..., bool], held: Lease, ending: BaseException) -> bool:
        if isinstance(ending, run.HandedBack) and execute("SELECT FROM public.jobs_job WHERE id = %s", held.id):
            _store_failure(held)
        return settle(held, ending)

    wrap(run, "_settle", settle)


def _store_failure(held: Lease) -> None:
    row = {**endings._result_row(held, states.FAILURE), **results.encoded("mutant")}
    results.store(held.schema, row)


@mutation
def hard_limit_unrecorded() -> None:
    wrap(TenantRequest, "_dead_letter", lambda dead_letter, request, error: None)


@mutation
def hand_back_by_id() -> None:
    """The parent of a child that never held the job frees it."""
    edit(statements, "HAND_BACK", "token = %(token)s", "%(token)s IS NOT NULL")


@mutation
def hand_back_counted() -> None:
    """Outages and deploys count like kills."""
    edit(statements, "HAND_BACK", "%(kills)s", "1 + 0 * %(kills)s")


@mutation
def kills_uncounted() -> None:
    edit(statements, "HAND_BACK", "%(kills)s", "0 * %(kills)s")


@mutation
def lost_is_poison() -> None:
    """A worker that vanishes counts like a child that is killed."""
    for module in (claim, endings, line, maintenance):
        wrap(module, "poison_limits", lambda limits: {**limits(), "max_lost": limits()["max_kills"]})
