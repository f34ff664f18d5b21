"""Workers take orders by the broker only if WORKER_REMOTE_CONTROL says so."""

from collections.abc import Callable

from celery import current_app

from devstack.processes import Process
from tenants.models import Tenant
from tests.jobs.conftest import eventually, where_ran
from tests.jobs.probes import probe


def ran_here(worker: Process, name: str) -> None:
    probe.delay(name)
    eventually(lambda: where_ran(name), "a task ran")
    assert worker.running


def test_nobody_answers_questions_or_orders(worker: Process, acme: Tenant) -> None:
    # Who listens is there before a worker is ready: an answer would come at once.
    assert current_app.control.inspect(timeout=1).conf() is None
    current_app.control.shutdown()
    current_app.control.rate_limit(probe.name, "1/h")
    current_app.control.cancel_consumer("celery")
    ran_here(worker, "after the orders")
    ran_here(worker, "and on")


def test_what_workers_say_of_each_other_is_not_heard(start_worker: Callable[..., Process], acme: Tenant) -> None:
    first, second = start_worker(), start_worker()
    for worker in (first, second):
        assert "mingle" not in worker.output
        assert "sync with" not in worker.output
    ran_here(second, "one")


def test_a_setting_asks_for_it(start_worker: Callable[..., Process], acme: Tenant) -> None:
    worker = start_worker(WORKER_REMOTE_CONTROL="1")
    assert current_app.control.ping(timeout=20, limit=1)
    current_app.control.shutdown()
    eventually(lambda: not worker.running, "it ends")
