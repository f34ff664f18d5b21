"""Workers take orders by the broker only if WORKER_REMOTE_CONTROL says so."""

import subprocess
from collections.abc import Callable

from devstack import CHECKOUT
from devstack.processes import Process
from tenants.models import Tenant
from tests.jobs.conftest import eventually, where_ran
from tests.jobs.probes import probe


def celery(*command: str) -> subprocess.CompletedProcess[str]:
    """As somebody does who has found the broker's address."""
    return subprocess.run(["celery", "-A", "config", *command], cwd=CHECKOUT, capture_output=True, text=True)


def ran_here(worker: Process, name: str) -> None:
    probe.delay(name)
    eventually(lambda: where_ran(name), "a task ran")
    assert worker.running


def test_nobody_answers_questions_or_orders(worker: Process, acme: Tenant) -> None:
    # Who listens does so before a worker is ready, and answers at once.
    for command in (("inspect", "conf"), ("control", "cancel_consumer", "celery"), ("control", "shutdown")):
        asked = celery(*command)
        assert "No nodes replied" in asked.stderr, asked
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
    assert "1 node online" in celery("inspect", "conf", "--timeout", "20").stdout
    celery("control", "shutdown")
    eventually(lambda: not worker.running, "it ends")
