"""A message that makes no sense is logged and dropped, and the worker that took it goes on."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django_tenants.utils import schema_context

from devstack.processes import Process
from tenants.models import Tenant
from tests.jobs.conftest import eventually, results_of, where_ran
from tests.jobs.durables import queue_length, sql
from tests.jobs.messages import NOTES, envelope, hold, push, senseless
from tests.jobs.probes import broker, probe


def goes_on(worker: Process, acme: Tenant) -> None:
    """It takes what comes after, and nothing is left in a queue or in its hands."""
    with schema_context(acme.schema_name):
        probe.delay("plain afterwards")
        probe.delay_on_commit("durable afterwards")
    for name in ("plain afterwards", "durable afterwards"):
        eventually(lambda name=name: where_ran(name) == [acme.schema_name], name)  # type: ignore[misc]  # no types
    assert worker.running
    assert (queue_length("jobs"), queue_length("celery")) == (0, 0)


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("queue", ["jobs", "celery"])
@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_worker_drops_what_makes_no_sense_and_goes_on(
    start_worker: Callable[..., Process], acme: Tenant, pool: str, queue: str
) -> None:
    worker = start_worker("-P", pool, "-c", "2")
    for message in senseless(queue).values():
        push(queue, message)
    goes_on(worker, acme)

    assert worker.output.count("Dropped what is no message") + worker.output.count("Dropped a message") == len(
        senseless(queue)
    )
    assert "Traceback" not in worker.output
    assert "Connection to broker lost" not in worker.output


@pytest.mark.usefixtures("relay")
def test_a_job_whose_message_was_dropped_is_sent_again(worker: Process, acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        job_id = probe.apply_async_on_commit(("mangled",), countdown=3600)
    push("jobs", envelope("jobs", id=job_id, timelimit=5))
    eventually(lambda: job_id in worker.output, "it was dropped")
    assert where_ran("mangled") == []

    sql("UPDATE public.jobs_job SET due_at = now(), next_send_at = now() WHERE id = %s", job_id)
    eventually(lambda: where_ran("mangled") == [acme.schema_name], "it was sent again")


def test_a_worker_starts_among_notes_that_make_no_sense(start_worker: Callable[..., Process], acme: Tenant) -> None:
    """kombu restores ten at a time, the latest first."""
    for kind in ("garbage", "binary", "a number", "a list of two", "an object"):
        hold(kind, NOTES[kind], since=1)
    hold("sensible", [envelope("celery", body=[["restored"], {}, {}]), "", "celery"], since=0)

    worker = start_worker()

    eventually(lambda: where_ran("restored") == ["public"], "it was restored")
    assert worker.output.count("Dropped what is no message from unacked") == 5
    assert "Traceback" not in worker.output


def test_an_unknown_task_is_none_of_them(worker: Process, acme: Tenant) -> None:
    """It makes sense, though not to this worker: a deploy may be under way."""
    message: Any = envelope("celery", task="elsewhere.task", tenantry={"schema": acme.schema_name})
    push("celery", message)
    eventually(lambda: results_of(message["headers"]["id"]) == {acme.schema_name: "FAILURE"}, "its failure")
    assert "Dropped" not in worker.output


@pytest.fixture(params=["unacked", "unacked_index", "unacked_mutex"])
def spoilt(request: pytest.FixtureRequest) -> Iterator[None]:
    """What Redis notes of plain tasks has a key of another type."""
    key = f"{settings.REDIS_KEY_PREFIX}{request.param}"
    broker().delete(key)
    broker().xadd(key, {"garbage": "garbage"})
    yield
    broker().delete(key)


@pytest.mark.usefixtures("relay", "spoilt")
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_worker_goes_on_though_redis_takes_no_notes(
    start_worker: Callable[..., Process], acme: Tenant, pool: str
) -> None:
    worker = start_worker("-P", pool, "-c", "2")
    goes_on(worker, acme)
    assert worker.output.count("The broker refuses notes") <= 1
    assert "Traceback" not in worker.output
    for told in ("Connection to broker lost", "Cannot connect", "Couldn't ack"):
        assert told not in worker.output
