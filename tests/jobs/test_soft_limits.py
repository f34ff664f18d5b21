"""A soft time limit ends the body that passed it, and nothing else that its process does."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from celery import current_app
from django.db import transaction
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.models import Job
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import ended, eventually, results_of, worker_and_relay
from tests.jobs.durables import (
    ACTS,
    acts,
    acts_outside,
    completes_late,
    groups,
    mark,
    message_of,
    pesters,
    pesters_outside,
    result_of,
    sql,
    tidies_up,
)

LIMIT = 0.5
# Somebody waits for the end of this transaction.
WAITS_FOR_ME = "SELECT pid FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"


@pytest.fixture(scope="module")
def _processes(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with worker_and_relay(tmp_path_factory.mktemp("processes"), "-c", "1") as worker:
        yield worker


@pytest.fixture
def worker(_processes: Process, committed_db: None) -> Iterator[Process]:
    """With one child."""
    assert _processes.running
    yield _processes
    current_app.control.purge()


def send(task: Any, tenant: Tenant, *args: Any, durable: bool = True, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        if durable:
            return str(task.apply_async_on_commit(args, **options))
        return str(task.apply_async(args, **options).id)


def publish(job_id: str) -> None:
    with current_app.connection_for_write() as broker:
        current_app.send_job(message_of(job_id), producer=current_app.amqp.Producer(broker.channel()))


def notes(name: str) -> list[dict[str, Any]]:
    return [note for note in probes.ran() if note["name"] == name]


def has_pestered(times: int) -> bool:
    return len(notes("pestered")) == times


@pytest.mark.parametrize(
    ("task", "durable"),
    [(pesters, False), (pesters, True), (pesters_outside, True)],
    ids=["plain task", "durable job", "durable job outside of transactions"],
)
def test_a_signal_that_comes_after_the_body_changes_nothing(
    worker: Process, acme: Tenant, task: Any, durable: bool
) -> None:
    """It may come while the result is written to the parent, or while the child waits for the next task."""
    for lap in range(1, 4):
        task_id = send(task, acme, "pests", durable=durable)
        eventually(partial(ended, task_id), "it ended")
        eventually(partial(has_pestered, lap), "the signals came")
        assert results_of(task_id) == {acme.schema_name: "SUCCESS"}
    task_id = send(mark, acme, "next")
    eventually(lambda: ended(task_id), "the next one ended")

    assert groups(acme.schema_name) == ["next"]
    assert len({note["pid"] for note in notes("pests")}) == 1
    assert "Traceback" not in worker.output


@pytest.mark.parametrize("task", [mark, completes_late], ids=["atomic", "outside of transactions"])
def test_a_job_whose_limit_passes_before_its_body_begins_runs_again(worker: Process, acme: Tenant, task: Any) -> None:
    job_id = send(task, acme, "late", countdown=60, soft_time_limit=LIMIT)
    sql("UPDATE public.jobs_job SET due_at = now() WHERE id = %s", job_id)
    with transaction.atomic():
        sql("SELECT FROM public.jobs_job WHERE id = %s FOR UPDATE", job_id)
        publish(job_id)
        eventually(lambda: sql(WAITS_FOR_ME), "its claim waits")
        sql("SELECT pg_sleep(%s)", 2 * LIMIT)
    probes.go()

    eventually(lambda: ended(job_id), "it ended")
    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert (groups(acme.schema_name), len(notes("late"))) == (["late"], 1)
    assert '"attempts": 2' in (result_of(acme.schema_name, job_id).meta or "")


def test_a_limit_that_passes_before_any_body_begins_is_the_jobs_death_at_last(worker: Process, acme: Tenant) -> None:
    job_id = send(mark, acme, "never", countdown=60, soft_time_limit=LIMIT)
    sql("UPDATE public.jobs_job SET due_at = now(), transients = 20 WHERE id = %s", job_id)
    with transaction.atomic():
        sql("SELECT FROM public.jobs_job WHERE id = %s FOR UPDATE", job_id)
        publish(job_id)
        eventually(lambda: sql(WAITS_FOR_ME), "its claim waits")
        sql("SELECT pg_sleep(%s)", 2 * LIMIT)

    eventually(lambda: ended(job_id), "it ended")
    job = Job.objects.get()
    assert (job.state, job.error) == ("dead", "TooManyTimes: Its soft time limit passed before its body began.")
    assert (groups(acme.schema_name), notes("never")) == ([], [])


@pytest.mark.parametrize(
    ("task", "act", "durable"),
    [
        (acts, "bind", True),
        *[(acts_outside, act, durable) for act in ACTS for durable in (True, False)],
    ],
)
def test_who_goes_on_after_a_limit_is_at_home_and_its_blocks_have_ended(
    worker: Process, acme: Tenant, globex: Tenant, task: Any, act: str, durable: bool
) -> None:
    """Wherever it comes: in the midst of entering a block, too, or of sending a statement."""
    for number in range(8):
        name = f"{act} {number}"
        task_id = send(
            task, acme, name, act, globex.schema_name, durable=durable, soft_time_limit=0.05 + 0.003 * number
        )
        eventually(partial(ended, task_id), "it ended")
        assert results_of(task_id) == {acme.schema_name: "SUCCESS"}, result_of(acme.schema_name, task_id).traceback
    assert groups(acme.schema_name) == [f"{act} {number}" for number in range(8)]
    assert groups(globex.schema_name) == []


def test_a_job_that_swallows_a_limit_amid_a_stream_ends(worker: Process, acme: Tenant, globex: Tenant) -> None:
    """What its transaction had so far is lost with the statement that was cancelled, if one was."""
    for number in range(4):
        job_id = send(acts, acme, f"row {number}", "stream", globex.schema_name, soft_time_limit=0.05 + 0.003 * number)
        eventually(partial(ended, job_id), "it ended")
        wrote = f"row {number}" in groups(acme.schema_name)
        assert results_of(job_id) == {acme.schema_name: "SUCCESS" if wrote else "FAILURE"}


def test_a_limit_that_passes_in_the_completion_comes_after_it(worker: Process, acme: Tenant) -> None:
    job_id = send(completes_late, acme, "complete", soft_time_limit=3 * LIMIT)
    eventually(lambda: notes("complete"), "the body began")
    with transaction.atomic():
        sql("SELECT FROM public.jobs_job WHERE id = %s FOR UPDATE", job_id)
        probes.go()
        eventually(lambda: sql(WAITS_FOR_ME), "its completion waits")
        sql("SELECT pg_sleep(%s)", 3 * LIMIT)

    eventually(lambda: notes("heard of it"), "the body heard of it")
    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert groups(acme.schema_name) == ["complete"]


def test_a_body_that_hears_of_it_amid_a_statement_can_go_on(worker: Process, acme: Tenant) -> None:
    job_id = send(tidies_up, acme, "tidy", soft_time_limit=LIMIT)
    eventually(lambda: ended(job_id), "it ended")

    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert groups(acme.schema_name) == ["tidy"]
