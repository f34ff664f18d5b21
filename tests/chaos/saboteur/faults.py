"""What the product's processes do at the points, and two faults of the relay's.

`twice`, `early`     it sends every message twice; and all that is not due yet, at each tick
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from celery import current_task

import billing.gateways
import billing.views
import jobs.app
import notifications.delivery
from billing.models import OrderLine
from jobs import execution, lease, relay, worker
from tenants.connection import connection
from tests.chaos.saboteur.points import commanded, note, point, wrap


def install() -> None:
    wrap(execution, "run", _run)
    wrap(lease, "claim", _claim)
    wrap(lease, "pass_gate", _pass_gate)
    wrap(lease, "complete", _complete)
    wrap(billing.gateways.HttpCardGateway, "charge", functools.partial(_call, "charge"))
    wrap(notifications.delivery, "transmit", functools.partial(_call, "mail"))
    wrap(OrderLine.objects, "bulk_create", _write_lines)
    wrap(billing.views, "place_order", _place_order)
    wrap(relay.Relay, "_publish", _publish)
    wrap(relay.Relay, "tick", _tick)
    wrap(jobs.app.TenantCelery, "send_job", _send_job)
    wrap(worker.TenantRequest, "on_accepted", _on_accepted)
    wrap(worker.TenantRequest, "_hand_back", _hand_back)


def _run(run: Callable[..., Any], task: Any, request: Any) -> Any:
    note("entered", job=request.id)
    try:
        result = run(task, request)
        point("after-commit", request.id)
        return result
    finally:
        note("left", job=request.id)


def _claim(claim: Callable[..., Any], id: str, **terms: Any) -> Any:
    held = claim(id, **terms)
    point("after-claim" if held else "refused", id)
    return held


def _pass_gate(pass_gate: Callable[..., bool], held: lease.Lease) -> bool:
    passed = pass_gate(held)
    if passed:
        note("began", job=held.id, task=held.task, home=held.schema)
    return passed


def _complete(complete: Callable[..., None], held: lease.Lease, result: Any) -> None:
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


def _publish(publish: Callable[..., None], own: relay.Relay, due: list[relay.Due]) -> None:
    if due:
        point("marked")
    publish(own, due)


def _send_job(send_job: Callable[..., None], app: Any, job: relay.Due, **options: Any) -> None:
    send_job(app, job, **options)
    point("mid-batch", str(job.id))
    if commanded("twice"):
        send_job(app, job, **options)


def _tick(tick: Callable[[relay.Relay], int], own: relay.Relay) -> int:
    if commanded("early"):
        own._publish(list(_undue()))
    return tick(own)


def _on_accepted(on_accepted: Callable[..., None], request: worker.TenantRequest, pid: int, *args: Any) -> None:
    on_accepted(request, pid, *args)
    note("accepted", job=request.id, child=pid)


def _hand_back(hand_back: Callable[..., None], request: worker.TenantRequest) -> None:
    hand_back(request)
    note("handed-back", job=request.id, child=request.worker_pid)


def _undue() -> Iterator[relay.Due]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT job.id, task, coalesce(schema_name, 'public') FROM public.jobs_job job"
            " LEFT JOIN public.tenants_tenant home ON home.id = tenant_id"
            " WHERE state = 'waiting' AND due_at > clock_timestamp()"
        )
        for id, task, schema in cursor.fetchall():
            yield relay.Due(id=id, task=task, schema=schema, soft_limit=None, hard_limit=None, request_id="")
