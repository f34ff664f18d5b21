"""What the product's processes do at the points, and two faults of the relay's.

`twice`, `early`     it sends every message twice; and all that is not due yet, at each tick
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from celery import current_task

import billing.gateways
import billing.views
import notifications.delivery
from billing.models import OrderLine
from jobs import claim, endings, run, schedules
from jobs.beat import TenantScheduler
from jobs.celery_hooks.app import TenantCelery
from jobs.claim import Lease
from jobs.relay.line import Due
from jobs.relay.process import Relay
from jobs.relay.publisher import Publisher
from jobs.worker.consumer import TenantConsumer
from jobs.worker.request import TenantRequest
from tenants.connection import connection
from tests.chaos.saboteur.points import commanded, note, point, wrap


def install() -> None:
    wrap(run, "run", _run)
    wrap(claim, "claim", _claim)
    wrap(claim, "pass_gate", _pass_gate)
    wrap(endings, "complete", _complete)
    wrap(billing.gateways.HttpCardGateway, "charge", functools.partial(_call, "charge"))
    wrap(notifications.delivery, "transmit", functools.partial(_call, "mail"))
    wrap(OrderLine.objects, "bulk_create", _write_lines)
    wrap(billing.views, "place_order", _place_order)
    wrap(Publisher, "publish", _publish)
    wrap(Relay, "tick", _tick)
    wrap(TenantCelery, "send_job", _send_job)
    wrap(schedules, "dispatch", _dispatch_run)
    wrap(TenantScheduler, "apply_entry", _apply_entry)
    wrap(TenantRequest, "on_accepted", _on_accepted)
    wrap(TenantRequest, "_hand_back", _hand_back)


def forget_task(name: str) -> None:
    """As a worker of a release in which the task had another name."""

    def forget(update: Callable[..., None], consumer: TenantConsumer) -> None:
        consumer.app.tasks.pop(f"tests.chaos.saboteur.tasks.{name}", None)
        update(consumer)

    wrap(TenantConsumer, "update_strategies", forget)


def _run(run_job: Callable[..., Any], task: Any, request: Any) -> Any:
    note("entered", job=request.id)
    try:
        result = run_job(task, request)
        point("after-commit", request.id)
        return result
    finally:
        note("left", job=request.id)


def _claim(claim_job: Callable[..., Any], job_id: str, **terms: Any) -> Any:
    held = claim_job(job_id, **terms)
    point("after-claim" if held else "refused", job_id)
    return held


def _pass_gate(pass_gate: Callable[..., bool], held: Lease) -> bool:
    passed = pass_gate(held)
    if passed:
        note("began", job=held.id, task=held.task, home=held.schema)
    return passed


def _complete(complete: Callable[..., None], held: Lease, result: Any) -> None:
    point("before-complete", held.id)
    kind = "atomic" if current_task.atomic else "open"
    point(f"{kind}-before-complete", held.id)
    complete(held, result)
    point(f"{kind}-before-commit", held.id)


def _call(name: str, call: Callable[..., Any], *args: Any) -> Any:
    point(f"before-{name}")
    answer = call(*args)
    point(f"after-{name}")
    return answer


def _write_lines(bulk_create: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    lines = bulk_create(*args, **kwargs)
    point("written")
    return lines


def _place_order(place_order: Callable[..., Any], **terms: Any) -> Any:
    placed = place_order(**terms)
    point("ordered")
    return placed


def _publish(publish: Callable[..., None], own: Publisher, due: list[Due]) -> None:
    if due:
        point("marked")
    publish(own, due)


def _send_job(send_job: Callable[..., None], app: Any, job: Due, **options: Any) -> None:
    send_job(app, job, **options)
    point("mid-batch", str(job.id))
    if commanded("twice"):
        send_job(app, job, **options)


def _dispatch_run(dispatch: Callable[..., bool], run: Any) -> bool:
    is_new = dispatch(run)
    point("run-written")
    return is_new


def _apply_entry(apply_entry: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    apply_entry(*args, **kwargs)
    point("run-committed")


def _tick(tick: Callable[[Relay], int], own: Relay) -> int:
    if commanded("early"):
        own.publisher.publish(list(_undue()))
    return tick(own)


def _on_accepted(on_accepted: Callable[..., None], request: TenantRequest, pid: int, *args: Any) -> None:
    on_accepted(request, pid, *args)
    note("accepted", job=request.id, child=pid)


def _hand_back(hand_back: Callable[..., None], request: TenantRequest) -> None:
    hand_back(request)
    note("handed-back", job=request.id, child=request.worker_pid)


def _undue() -> Iterator[Due]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT job.id, task, coalesce(schema_name, 'public') FROM public.jobs_job job"
            " LEFT JOIN public.tenants_tenant home ON home.id = tenant_id"
            " WHERE state = 'waiting' AND due_at > clock_timestamp()"
        )
        for id, task, schema in cursor.fetchall():
            yield Due(id=id, task=task, schema=schema, soft_limit=None, hard_limit=None, request_id="")
