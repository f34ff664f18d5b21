"""As test_hostile_bodies.py, where the body runs in the worker's own process."""

from collections.abc import Callable

import pytest
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.models import Job
from tenants.models import Tenant
from tests.jobs.conftest import ended, eventually, results_of
from tests.jobs.hostile import DEADLY, does, does_at_its_end, returns_what_raises
from tests.jobs.test_hostile_bodies import INCLUDE, goes_on, send

pytestmark = pytest.mark.usefixtures("relay")


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_no_pool_hangs_of_what_a_body_raises(start_worker: Callable[..., Process], acme: Tenant, pool: str) -> None:
    worker = start_worker("-P", pool, "-c", "1", *INCLUDE)
    deadly = tuple(kind.__name__ for kind in DEADLY)
    for deed in ("KeyboardInterrupt", "GeneratorExit", "CancelledError", "an exception of its own", *deadly):
        task_id = send(does, acme, deed, durable=False)
        eventually(lambda task_id=task_id: ended(task_id), deed)  # type: ignore[misc]  # no types
        assert results_of(task_id) == {acme.schema_name: "FAILURE"}
    goes_on(worker, worker.pid, acme)


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_no_pool_hangs_of_what_comes_at_a_jobs_end(
    start_worker: Callable[..., Process], acme: Tenant, pool: str
) -> None:
    worker = start_worker("-P", pool, "-c", "1", *INCLUDE)
    for deed in ("exits", "KeyboardInterrupt", "CancelledError", "an exception of its own"):
        job_id = send(does_at_its_end, acme, deed)
        eventually(lambda job_id=job_id: ended(job_id), deed)  # type: ignore[misc]  # no types
        assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
        worker.wait_for(f"An on_commit hook of job {job_id} raised")
    with schema_context(acme.schema_name):
        job_id = returns_what_raises.delay_on_commit()
    eventually(lambda: Job.objects.filter(id=job_id, state="dead").exists(), "its end")
    assert "KeyboardInterrupt" in Job.objects.get(id=job_id).error
    goes_on(worker, worker.pid, acme)
