"""How a durable job ends: in one transaction with its effects, and in a state that its tenant can read."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from celery import current_app, shared_task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.result import AsyncResult
from django.contrib.auth.models import Group
from django.db import ProgrammingError, transaction
from django.utils import timezone
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from jobs.celery_hooks.backends import TenantCacheBackend
from jobs.celery_hooks.tracing import trace
from jobs.endings import cancel
from jobs.message import HEADER
from jobs.models import Job
from jobs.relay.line import wake
from jobs.relay.maintenance import run_maintenance
from jobs.task import TenantTask
from jobs.testing import receive
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.conftest import results_of
from tests.jobs.durables import atomic, bodies, groups, message_of, open, queue_length, result_of, sql, stubborn
from tests.people import at_once

RunJobs = Callable[..., int]
# An effect, and then an ending.
Ending = Callable[[TenantTask], Any]


def dispatch(tenant: Tenant, task: Any, *args: Any, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        job_id: str = task.apply_async_on_commit(args, **options)
    return job_id


def raising(error: BaseException) -> Ending:
    def end(task: TenantTask) -> None:
        raise error

    return end


def with_effect(end: Ending) -> None:
    def body(task: TenantTask, *args: Any) -> Any:
        Group.objects.create(name="effect")
        return end(task)

    bodies(body)


@pytest.fixture(params=[atomic, open], ids=["atomic", "open"])
def task(request: pytest.FixtureRequest) -> TenantTask:
    of_either_kind: TenantTask = request.param
    return of_either_kind


def test_a_job_that_succeeds_leaves_effect_and_result_and_no_row(
    acme: Tenant, task: TenantTask, run_jobs: RunJobs
) -> None:
    with_effect(lambda task: {"answer": 42})
    job_id = dispatch(acme, task)
    run_jobs()
    assert groups(acme.schema_name) == ["effect"]
    assert not Job.objects.exists()
    result = result_of(acme.schema_name, job_id)
    assert (result.status, result.result, result.task_name) == ("SUCCESS", '{"answer": 42}', task.name)
    assert not TaskResult.objects.filter(task_id=job_id).exists()


def test_a_platform_job_leaves_its_result_in_public(db: None, run_jobs: RunJobs) -> None:
    bodies(lambda task: connection.schema_name)
    job_id = atomic.delay_on_commit()
    run_jobs()
    assert result_of("public", job_id).result == '"public"'


@pytest.mark.usefixtures("committed_db")
def test_effect_result_and_the_end_of_the_row_are_one_transaction(acme: Tenant, run_jobs: RunJobs) -> None:
    transactions: list[str] = []

    def body(task: TenantTask) -> None:
        Group.objects.create(name="effect")
        transactions.append(sql("SELECT pg_current_xact_id()::text")[0][0])

    bodies(body)
    job_id = dispatch(acme, atomic)
    run_jobs()
    written = sql(
        f'SELECT xmin::text FROM "{acme.schema_name}".auth_group UNION ALL '
        f'SELECT xmin::text FROM "{acme.schema_name}".django_celery_results_taskresult WHERE task_id = %s',
        job_id,
    )
    assert written == [(transactions[0],)] * 2


def test_a_tenant_gets_the_result_by_the_id(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: [1, {"two": 2}])
    job_id = dispatch(acme, atomic)
    run_jobs()
    with schema_context(acme.schema_name):
        assert AsyncResult(job_id, app=current_app).get(timeout=1) == [1, {"two": 2}]


@pytest.mark.usefixtures("db")
def test_the_terminal_row_is_in_the_database_with_a_cache_for_results_too(
    acme: Tenant, run_jobs: RunJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies(lambda task: "kept")
    monkeypatch.setattr(atomic, "_backend", TenantCacheBackend(app=current_app))
    job_id = dispatch(acme, atomic)
    run_jobs()
    assert result_of(acme.schema_name, job_id).result == '"kept"'


# A deploy: workers of the new code may start before the release step has made its functions.


@contextmanager
def lacking(function: str) -> Iterator[None]:
    sql(f"ALTER FUNCTION public.{function} RENAME TO {function}_later")
    try:
        yield
    finally:
        sql(f"ALTER FUNCTION public.{function}_later RENAME TO {function}")


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("function", ["jobs_pass_gate", "jobs_complete"])
def test_a_job_for_which_a_function_of_ours_is_missing_is_tried_again(
    acme: Tenant, task: TenantTask, run_jobs: RunJobs, function: str
) -> None:
    bodies(lambda task: "done")
    job_id = dispatch(acme, task)
    with lacking(function):
        run_jobs(limit=1)
        job = Job.objects.get()
        assert (job.state, job.token, job.kills, job.lost) == ("waiting", None, 0, 0)

    run_jobs(ahead=True)
    assert result_of(acme.schema_name, job_id).status == "SUCCESS"


# What a trigger of the tenant's own lacks, no release step makes. It raises in the COMMIT.

LACKING = {
    "a function": ("PERFORM no_such()", "42883"),
    "a table": ("PERFORM FROM no_such", "42P01"),
    "a column": ("PERFORM no_such FROM auth_group", "42703"),
    "a function of our own name": ("PERFORM public.jobs_complete(no_such => 1)", "42883"),
    "what it says is ours": ("RAISE 'no public.jobs_complete()' USING ERRCODE = '42883'", "42883"),
    "a lease, as it says": ("RAISE 'lease_lost' USING ERRCODE = 'TN001'", None),
}
TRIGGER = """
    CREATE FUNCTION public.fails_at_the_commit() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN {act}; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON "{schema}".auth_group DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.fails_at_the_commit()
"""


@pytest.fixture
def add_trigger(committed_db: None, acme: Tenant) -> Iterator[Callable[[str], Any]]:
    yield lambda act: sql(TRIGGER.format(act=act, schema=acme.schema_name))
    sql("DROP FUNCTION public.fails_at_the_commit() CASCADE")


def complete_with_effect(task: TenantTask) -> None:
    with task.completion():
        Group.objects.create(name="effect")


def write_at_once(task: TenantTask) -> None:
    Group.objects.create(name="effect")


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("lack", LACKING)
@pytest.mark.parametrize(
    ("task", "body"), [(atomic, write_at_once), (open, complete_with_effect), (open, write_at_once)]
)
def test_what_a_trigger_lacks_at_the_commit_is_the_jobs_death(
    acme: Tenant,
    run_jobs: RunJobs,
    add_trigger: Callable[[str], Any],
    task: TenantTask,
    body: Callable[[TenantTask], None],
    lack: str,
) -> None:
    act, sqlstate = LACKING[lack]
    calls: list[int] = []

    def call_and_write(task: TenantTask) -> None:
        calls.append(1)
        body(task)

    bodies(call_and_write)
    job_id = dispatch(acme, task)
    add_trigger(act)
    run_jobs(ahead=True, limit=3)
    job = Job.objects.get()
    assert (job.state, job.attempt, len(calls), groups(acme.schema_name)) == ("dead", 1, 1, [])
    assert result_of(acme.schema_name, job_id).status == "FAILURE"
    assert "fails_at_the_commit" in job.traceback
    if sqlstate is not None:
        assert job.error == f"ProgrammingError: SQLSTATE {sqlstate}"


@pytest.mark.parametrize("act", ["SELECT no_such()", "SELECT public.jobs_no_such()", "SELECT FROM public.jobs_no_such"])
@pytest.mark.usefixtures("committed_db")
def test_what_a_body_lacks_is_the_jobs_death(acme: Tenant, task: TenantTask, run_jobs: RunJobs, act: str) -> None:
    bodies(lambda task: sql(act))
    dispatch(acme, task)
    run_jobs(ahead=True)
    job = Job.objects.get()
    assert (job.state, job.attempt) == ("dead", 1)
    assert "no_such" in job.traceback


@pytest.mark.usefixtures("committed_db")
def test_what_a_body_lacks_in_its_completion_is_the_jobs_death(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with task.completion():
            sql("SELECT public.jobs_no_such()")

    bodies(body)
    dispatch(acme, open)
    run_jobs(ahead=True)
    assert (Job.objects.get().state, Job.objects.get().attempt) == ("dead", 1)


# Death


def test_an_exception_makes_it_dead_with_error_and_traceback(acme: Tenant, task: TenantTask, run_jobs: RunJobs) -> None:
    with_effect(raising(ValueError("no such invoice", 7)))
    job_id = dispatch(acme, task)
    run_jobs()
    job = Job.objects.get()
    assert (job.state, job.token, job.attempt) == ("dead", None, 1)
    assert job.error == "ValueError: ('no such invoice', 7)"
    assert "in raising" in job.traceback or "in end" in job.traceback
    result = result_of(acme.schema_name, job_id)
    assert (result.status, result.traceback) == ("FAILURE", job.traceback)
    with schema_context(acme.schema_name), pytest.raises(ValueError, match="no such invoice"):
        AsyncResult(job_id, app=current_app).get(timeout=1)
    assert run_jobs(ahead=True) == 0


def test_the_effect_of_a_failed_atomic_job_is_rolled_back(acme: Tenant, run_jobs: RunJobs) -> None:
    with_effect(raising(ValueError()))
    dispatch(acme, atomic)
    run_jobs()
    assert groups(acme.schema_name) == []


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [ValueError("a\0b"), ValueError("\ud800"), ValueError(object()), Unspeakable(), SoftTimeLimitExceeded()],
    ids=["NUL", "surrogate", "object", "unspeakable", "soft limit"],
)
def test_whatever_it_dies_of_is_recorded(acme: Tenant, error: Exception, run_jobs: RunJobs) -> None:
    with_effect(raising(error))
    job_id = dispatch(acme, atomic)
    run_jobs()
    assert Job.objects.get().error.startswith(type(error).__name__)
    assert result_of(acme.schema_name, job_id).status == "FAILURE"


def test_a_result_that_is_no_json_is_a_failure(acme: Tenant, task: TenantTask, run_jobs: RunJobs) -> None:
    with_effect(lambda task: object())
    dispatch(acme, task)
    run_jobs()
    job = Job.objects.get()
    assert job.state == "dead"
    assert (
        job.error
        == "TypeError: A durable job's result must be plain JSON: it has no object; pass ids and plain values."
    )
    assert groups(acme.schema_name) == ([] if task is atomic else ["effect"])


@pytest.mark.usefixtures("committed_db")
def test_a_body_that_leaves_a_transaction_open_is_a_failure(acme: Tenant, task: TenantTask, run_jobs: RunJobs) -> None:
    with_effect(lambda task: transaction.atomic().__enter__())
    dispatch(acme, task)
    run_jobs()
    assert Job.objects.get().state == "dead"
    assert groups(acme.schema_name) == ([] if task is atomic else ["effect"])


def swallow_an_error() -> None:
    with suppress(ProgrammingError):
        sql("SELECT no_such_column")


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("spoil", [partial(transaction.set_rollback, True), swallow_an_error])
def test_a_body_whose_transaction_can_not_be_committed_is_a_failure(
    acme: Tenant, run_jobs: RunJobs, spoil: Callable[[], None]
) -> None:
    def body(task: TenantTask) -> None:
        Group.objects.create(name="effect")
        spoil()

    bodies(body)
    job_id = dispatch(acme, atomic)
    run_jobs()
    assert groups(acme.schema_name) == []
    assert Job.objects.get().state == "dead"
    assert result_of(acme.schema_name, job_id).status == "FAILURE"


# A result that somebody stores by a job's id


def store_as(status: str) -> Callable[[TenantTask], None]:
    return lambda task: task.backend.store_result(task.request.id, "untrue", status)


UNTRUE: dict[str, Callable[[TenantTask], Any]] = {
    "SUCCESS": store_as("SUCCESS"),
    "FAILURE": lambda task: task.backend.mark_as_failure(task.request.id, ValueError("untrue")),
    "REVOKED": store_as("REVOKED"),
    "IGNORED": store_as("IGNORED"),
    "done": lambda task: task.backend.mark_as_done(task.request.id, "untrue"),
    "update_state": lambda task: task.update_state(state="SUCCESS", meta="untrue"),
}
ENDS: dict[str, Ending] = {
    "SUCCESS": lambda task: "true",
    "FAILURE": raising(ValueError("true")),
    "IGNORED": raising(Ignore("true")),
}


@pytest.mark.parametrize("untrue", UNTRUE)
@pytest.mark.parametrize("end", ENDS)
def test_the_end_that_is_recorded_wins_over_what_the_body_stored(
    acme: Tenant, task: TenantTask, run_jobs: RunJobs, end: str, untrue: str
) -> None:
    def body(task: TenantTask) -> Any:
        UNTRUE[untrue](task)
        return ENDS[end](task)

    bodies(body)
    job_id = dispatch(acme, task)
    run_jobs()
    result = result_of(acme.schema_name, job_id)
    assert (result.status, result.task_name) == (end, task.name)
    assert "true" in result.result
    assert "untrue" not in result.result


def test_so_it_does_in_a_completion(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with task.completion() as done:
            task.backend.store_result(task.request.id, "untrue", "FAILURE")
            done.result = "true"

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert result_of(acme.schema_name, job_id).result == '"true"'


@pytest.mark.parametrize("status", ["FAILURE", "SUCCESS", "STARTED"])
def test_what_is_stored_after_the_end_changes_nothing(acme: Tenant, run_jobs: RunJobs, status: str) -> None:
    bodies(lambda task: "true")
    job_id = dispatch(acme, atomic)
    run_jobs()
    with schema_context(acme.schema_name):
        atomic.backend.store_result(job_id, "untrue", status)
    assert result_of(acme.schema_name, job_id).result == '"true"'


def test_what_a_plain_task_stores_of_a_job_changes_nothing(acme: Tenant, run_jobs: RunJobs) -> None:
    job_id = dispatch(acme, atomic)
    trace(stores, "0190b8a0-0000-7000-8000-000000000001", {HEADER: {"schema": acme.schema_name}}, (job_id,))
    bodies(lambda task: "true")
    run_jobs()
    assert result_of(acme.schema_name, job_id).result == '"true"'


@shared_task(bind=True)
def stores(self: TenantTask, job_id: str) -> None:
    self.backend.store_result(job_id, "untrue", "SUCCESS")
    self.backend.store_result(job_id, "untrue", "SUCCESS", request=self.request)


@pytest.mark.parametrize("task_id", ["0190b8a0-0000-7000-8000-000000000001", "no uuid"])
def test_what_is_no_jobs_is_stored_as_ever(acme: Tenant, task_id: str) -> None:
    with schema_context(acme.schema_name):
        atomic.backend.store_result(task_id, "by hand", "SUCCESS")
        assert AsyncResult(task_id, app=current_app).get(timeout=1) == "by hand"


def test_a_cancelled_job_is_revoked_whatever_somebody_stored(acme: Tenant) -> None:
    job_id = dispatch(acme, atomic)
    with schema_context(acme.schema_name):
        atomic.backend.store_result(job_id, "untrue", "SUCCESS")
    assert cancel(Job.objects.get())
    assert result_of(acme.schema_name, job_id).status == "REVOKED"


# Retries


def test_a_retry_is_stored_after_the_rollback_and_published_by_nobody(acme: Tenant, run_jobs: RunJobs) -> None:
    with_effect(lambda task: task.retry(exc=ValueError("try later"), countdown=60))
    job_id = dispatch(acme, atomic)
    run_jobs()
    job = Job.objects.get()
    assert (job.state, job.token, job.retries, job.error) == ("waiting", None, 1, "ValueError: try later")
    assert timedelta(seconds=50) < job.due_at - timezone.now() <= timedelta(seconds=60)
    assert job.next_send_at == job.due_at
    assert groups(acme.schema_name) == []
    assert queue_length() == 0
    assert run_jobs() == 0
    with_effect(lambda task: task.request.retries)
    run_jobs(ahead=True)
    assert result_of(acme.schema_name, job_id).result == "1"


def test_after_the_last_retry_it_is_dead(acme: Tenant, task: TenantTask, run_jobs: RunJobs) -> None:
    tries: list[int] = []

    def body(task: TenantTask) -> None:
        tries.append(task.request.retries)
        task.retry(exc=ValueError("in vain"), countdown=60)

    bodies(body)
    dispatch(acme, task)
    run_jobs(ahead=True)
    assert tries == [0, 1, 2]
    job = Job.objects.get()
    assert (job.state, job.attempt, job.error) == ("dead", 3, "ValueError: in vain")


def test_retries_by_autoretry_back_off(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(raising(ConnectionError("refused")))
    dispatch(acme, stubborn)
    waits = []
    for _ in range(2):
        run_jobs()
        waits.append(round((Job.objects.get().due_at - timezone.now()).total_seconds(), -1))
        Job.objects.update(due_at=timezone.now(), next_send_at=timezone.now())
    assert waits == [100, 150]
    run_jobs()
    assert Job.objects.get().error == "ConnectionError: refused"
    assert Job.objects.get().state == "dead"


def test_a_retry_may_name_a_time(acme: Tenant, run_jobs: RunJobs) -> None:
    at = timezone.now() + timedelta(days=3)
    bodies(lambda task: task.retry(eta=at))
    dispatch(acme, atomic)
    run_jobs()
    assert Job.objects.get().due_at == at


@pytest.mark.parametrize("error", [Retry("when it pleases"), Reject("not here", requeue=True)], ids=repr)
def test_what_names_no_time_is_tried_again_soon(acme: Tenant, error: Exception, run_jobs: RunJobs) -> None:
    with_effect(raising(error))
    dispatch(acme, atomic)
    run_jobs()
    job = Job.objects.get()
    assert (job.state, job.token) == ("waiting", None)
    assert timedelta(seconds=0) < job.due_at - timezone.now() <= timedelta(seconds=10)
    assert groups(acme.schema_name) == []


@shared_task(bind=True, max_retries=100)
def plain_function(self: TenantTask, **terms: Any) -> None:
    self.retry(**terms)


def in_a_helper_thread(act: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as helpers:
        return helpers.submit(act).result()


kept_retries: list[Retry] = []


def raise_a_kept_one(task: TenantTask) -> None:
    if not kept_retries:
        kept_retries.append(task.retry(countdown=60, throw=False))
    raise kept_retries[0]


def retry_for_a_retry(task: TenantTask) -> None:
    task.retry(exc=Retry(when=60), countdown=60)


def pretend_to_be_the_first_try(task: TenantTask) -> None:
    task.request.retries = 0
    task.retry(countdown=60)


# All of them in 60 seconds
RETRIES: dict[str, Callable[[TenantTask], Any]] = {
    "in a helper thread": lambda task: in_a_helper_thread(lambda: task.retry(countdown=60)),
    "in asyncio's": lambda task: asyncio.run(asyncio.to_thread(lambda: task.retry(countdown=60))),
    "at a time, in a helper thread": lambda task: in_a_helper_thread(lambda: task.retry(eta=in_a_minute())),
    "of another task, called as a function": lambda task: plain_function(countdown=60),
    "of another task, whose body is called": lambda task: plain_function.run(countdown=60),
    "made by hand": lambda task: _raise(Retry(when=60)),
    "made by hand, for a reason": lambda task: _raise(Retry(exc=ValueError("in vain"), when=60)),
    "made by hand, for itself": lambda task: _raise(Retry(exc=Retry(), when=60)),
    "kept from the first try": raise_a_kept_one,
    "for a retry": retry_for_a_retry,
    "of a body that counts itself": pretend_to_be_the_first_try,
}


def in_a_minute() -> Any:
    return timezone.now() + timedelta(seconds=60)


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("case", RETRIES)
def test_whatever_raises_a_retry_the_jobs_own_limit_holds(
    acme: Tenant, task: TenantTask, run_jobs: RunJobs, case: str
) -> None:
    kept_retries.clear()
    bodies(RETRIES[case])
    job_id = dispatch(acme, task)
    run_jobs(limit=1)
    job = Job.objects.get()
    assert (job.state, job.retries) == ("waiting", 1)
    assert timedelta(seconds=50) < job.due_at - timezone.now() <= timedelta(seconds=60)

    run_jobs(ahead=True, limit=4)
    job = Job.objects.get()
    assert (job.state, job.attempt, job.retries) == ("dead", 3, 2)
    assert job.error.startswith("ValueError: in vain" if "reason" in case else "MaxRetriesExceededError: ")
    assert result_of(acme.schema_name, job_id).status == "FAILURE"


def test_a_retry_that_raises_the_limit_has_its_own(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: task.retry(countdown=60, max_retries=4))
    dispatch(acme, atomic)
    run_jobs(ahead=True, limit=9)
    assert (Job.objects.get().state, Job.objects.get().attempt) == ("dead", 5)


@shared_task(bind=True, max_retries=None)
def endless(self: TenantTask) -> None:
    raise Retry(when=60)


@shared_task(bind=True, max_retries="twice")
def absurd(self: TenantTask) -> None:
    raise Retry(when=60)


def test_a_task_without_a_limit_is_tried_again_and_again(acme: Tenant, run_jobs: RunJobs) -> None:
    dispatch(acme, endless)
    run_jobs(ahead=True, limit=9)
    assert (Job.objects.get().state, Job.objects.get().retries) == ("waiting", 9)


def test_a_limit_that_is_no_number_is_the_jobs_death(acme: Tenant, run_jobs: RunJobs) -> None:
    dispatch(acme, absurd)
    run_jobs(ahead=True, limit=9)
    assert (Job.objects.get().state, Job.objects.get().attempt) == ("dead", 1)
    assert "max_retries" in Job.objects.get().error


def test_a_durable_job_refuses_to_be_replaced(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: task.replace(atomic.s()))
    dispatch(acme, atomic)
    run_jobs()
    assert "can't be replaced" in Job.objects.get().error


# Other endings


def test_ignore_ends_it_without_effect(acme: Tenant, run_jobs: RunJobs) -> None:
    with_effect(raising(Ignore("nothing to do")))
    job_id = dispatch(acme, atomic)
    run_jobs()
    assert result_of(acme.schema_name, job_id).status == "IGNORED"
    assert groups(acme.schema_name) == []
    assert not Job.objects.exists()


def test_reject_without_requeue_makes_it_dead(acme: Tenant, run_jobs: RunJobs) -> None:
    with_effect(raising(Reject("bad", requeue=False)))
    job_id = dispatch(acme, atomic)
    run_jobs()
    assert Job.objects.get().state == "dead"
    assert result_of(acme.schema_name, job_id).status == "FAILURE"


def test_a_process_that_exits_under_it_hands_it_back(acme: Tenant, run_jobs: RunJobs) -> None:
    with_effect(raising(SystemExit(3)))
    job_id = dispatch(acme, atomic)
    run_jobs(limit=1)
    job = Job.objects.get()
    assert (job.state, job.token, job.kills) == ("waiting", None, 1)
    with_effect(lambda task: "fine")
    run_jobs()
    assert result_of(acme.schema_name, job_id).result == '"fine"'


@pytest.mark.usefixtures("committed_db")
def test_a_lost_connection_hands_it_back(acme: Tenant, task: TenantTask, run_jobs: RunJobs) -> None:
    attempts: list[int] = []

    def body(task: TenantTask) -> str:
        attempts.append(1)
        with task.before_call():
            if len(attempts) == 1:
                sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return "fine"

    bodies(body)
    job_id = dispatch(acme, task)
    run_jobs()
    job = Job.objects.get()
    assert (job.kills, job.lost, job.transients) == (0, 0, 1)
    run_jobs(ahead=True)
    assert len(attempts) == 2
    assert result_of(acme.schema_name, job_id).result == '"fine"'


@pytest.mark.usefixtures("committed_db")
def test_a_body_that_breaks_its_connection_each_time_is_tried_ever_more_seldom(
    acme: Tenant, task: TenantTask, run_jobs: RunJobs
) -> None:
    def body(task: TenantTask) -> None:
        with task.before_call():
            sql("SELECT pg_terminate_backend(pg_backend_pid())")

    bodies(body)
    dispatch(acme, task)
    run_jobs()
    waits = []
    for attempt in (1, 2, 3):
        [[seconds]] = sql("SELECT extract(epoch FROM next_send_at - clock_timestamp())::float FROM public.jobs_job")
        waits.append(round(seconds))
        assert Job.objects.get().attempt == attempt
        run_jobs(ahead=True, limit=1)
    assert waits == [1, 2, 4]
    assert (Job.objects.get().kills, Job.objects.get().lost) == (0, 0)


@pytest.mark.usefixtures("committed_db")
def test_a_connection_that_was_lost_before_the_claim_costs_nothing(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: Job.objects.get().attempt)
    job_id = dispatch(acme, atomic)
    message = message_of(job_id)
    [[pid]] = sql("SELECT pg_backend_pid()")
    at_once(lambda: sql("SELECT pg_terminate_backend(%s, 5000)", pid))
    receive(message)
    assert result_of(acme.schema_name, job_id).result == "1"


def test_expiry_is_revocation_by_the_relay(acme: Tenant, run_jobs: RunJobs) -> None:
    with_effect(lambda task: None)
    job_id = dispatch(acme, atomic, expires=0)
    assert run_jobs() == 0
    assert not Job.objects.exists()
    assert result_of(acme.schema_name, job_id).status == "REVOKED"


def test_a_body_that_meddles_with_the_schema_completes_at_home(
    acme: Tenant, globex: Tenant, task: TenantTask, run_jobs: RunJobs
) -> None:
    with_effect(lambda task: connection.set_schema(globex.schema_name))
    job_id = dispatch(acme, task)
    run_jobs()
    assert result_of(acme.schema_name, job_id).status == "SUCCESS"
    assert groups(acme.schema_name) == ["effect"]
    assert connection.schema_name == "public"


# atomic = False


def test_a_completion_holds_effects_result_and_end(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> str:
        with task.completion() as done:
            Group.objects.create(name="effect")
            done.result = "recorded"
        return "ignored"

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert groups(acme.schema_name) == ["effect"]
    assert result_of(acme.schema_name, job_id).result == '"recorded"'


def test_a_body_runs_outside_of_a_transaction(acme: Tenant, run_jobs: RunJobs) -> None:
    with_effect(raising(ValueError()))
    dispatch(acme, open)
    run_jobs()
    assert groups(acme.schema_name) == ["effect"]


def test_an_exception_within_the_completion_rolls_it_back(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with task.completion():
            Group.objects.create(name="effect")
            raise ValueError("in the midst")

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert groups(acme.schema_name) == []
    assert result_of(acme.schema_name, job_id).status == "FAILURE"
    assert Job.objects.get().error == "ValueError: in the midst"


def test_a_completion_that_failed_may_be_tried_once_more(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with pytest.raises(ValueError, match="midst"), task.completion():
            raise ValueError("in the midst")
        with task.completion() as done:
            done.result = "otherwise"

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert result_of(acme.schema_name, job_id).result == '"otherwise"'


def test_a_completion_leaves_what_is_bound_as_it_is(acme: Tenant, globex: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with schema_context(globex.schema_name):
            with task.completion() as done:
                Group.objects.create(name="inside")
                done.result = "recorded"
            Group.objects.create(name="after")
        Group.objects.create(name="at home")

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert (groups(globex.schema_name), groups(acme.schema_name)) == (["after", "inside"], ["at home"])
    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}


@pytest.mark.parametrize("error", [ValueError("late"), Retry(when=0)], ids=repr)
def test_what_comes_after_the_completion_changes_nothing(acme: Tenant, error: Exception, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with task.completion() as done:
            done.result = "recorded"
        raise error

    bodies(body)
    job_id = dispatch(acme, open)
    assert run_jobs() == 1
    assert not Job.objects.exists()
    assert result_of(acme.schema_name, job_id).result == '"recorded"'


def test_a_completion_is_entered_once(acme: Tenant, run_jobs: RunJobs) -> None:
    entered: list[str] = []

    def body(task: TenantTask) -> None:
        for name in ("first", "second"):
            with task.completion() as done:
                entered.append(name)
                done.result = name

    bodies(body)
    job_id = dispatch(acme, open)
    run_jobs()
    assert entered == ["first"]
    assert result_of(acme.schema_name, job_id).result == '"first"'


def test_an_atomic_body_has_no_completion_of_its_own(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with task.completion():
            pass

    bodies(body)
    dispatch(acme, atomic)
    run_jobs()
    assert "set atomic=False" in Job.objects.get().error


@pytest.mark.usefixtures("committed_db")
def test_a_completion_is_no_part_of_another_transaction(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with transaction.atomic(), task.completion():
            Group.objects.create(name="effect")

    bodies(body)
    dispatch(acme, open)
    run_jobs()
    assert Job.objects.get().state == "dead"
    assert groups(acme.schema_name) == []


def by_asyncio(act: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.to_thread(act))


def by_asgiref(act: Callable[[], Any]) -> Any:
    return asyncio.run(sync_to_async(act, thread_sensitive=False)())


HELPERS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "a pool of threads": at_once,
    "asyncio": by_asyncio,
    "asgiref": by_asgiref,
}


def enter(block: Any) -> None:
    with block:
        Group.objects.create(name="effect")


ELSEWHERE: dict[str, Callable[[TenantTask], Any]] = {
    "completion": lambda task: enter(task.completion()),
    "before_call": lambda task: enter(task.before_call()),
    "snooze": lambda task: task.snooze(60),
}


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("helper", HELPERS)
@pytest.mark.parametrize("deed", ELSEWHERE)
def test_another_thread_than_the_bodys_knows_of_no_job(
    acme: Tenant, run_jobs: RunJobs, task: TenantTask, helper: str, deed: str
) -> None:
    def act(task: TenantTask) -> None:
        try:
            with schema_context(acme.schema_name):
                ELSEWHERE[deed](task)
        finally:
            connection.close()

    bodies(lambda task: HELPERS[helper](lambda: act(task)))
    dispatch(acme, task)
    run_jobs(ahead=True, limit=3)
    job = Job.objects.get()
    assert (job.state, job.attempt, groups(acme.schema_name)) == ("dead", 1, [])
    assert f"self.{deed}()" in job.error
    assert "thread of the body" in job.error


def write_in_a_completion(task: TenantTask, *args: Any) -> None:
    with task.before_call(), task.completion() as done:
        Group.objects.create(name="effect")
        done.result = "for nobody"


@pytest.mark.parametrize("call", [lambda: open("x"), lambda: open.run("x"), lambda: open.apply(("x",))])
def test_a_completion_of_a_function_call_is_a_plain_transaction(acme: Tenant, call: Callable[[], Any]) -> None:
    bodies(write_in_a_completion)
    with schema_context(acme.schema_name):
        call()
    assert groups(acme.schema_name) == ["effect"]


@pytest.mark.parametrize("call", [lambda: plainly_complete("x"), lambda: plainly_complete.run("x")])
def test_so_it_is_in_the_body_of_another_job(acme: Tenant, run_jobs: RunJobs, call: Callable[[], Any]) -> None:
    bodies(lambda task: call())
    dispatch(acme, open)
    run_jobs()
    assert (Job.objects.count(), groups(acme.schema_name)) == (0, ["effect"])


@shared_task(bind=True, atomic=False)
def plainly_complete(self: TenantTask, name: str) -> None:
    write_in_a_completion(self)


@shared_task(bind=True, atomic=False)
def plainly_complete_elsewhere(self: TenantTask, name: str) -> None:
    by_asyncio(lambda: write_and_close(self))


def write_and_close(task: TenantTask) -> None:
    try:
        write_in_a_completion(task)
    finally:
        connection.close()


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("plain", [plainly_complete, plainly_complete_elsewhere])
def test_so_it_is_in_a_plain_task(acme: Tenant, plain: TenantTask) -> None:
    trace(plain, "0190b8a0-0000-7000-8000-000000000001", {HEADER: {"schema": acme.schema_name}}, ("x",))
    assert groups(acme.schema_name) == ["effect"]


@pytest.mark.usefixtures("committed_db")
def test_a_job_that_has_ended_keeps_nobody_from_a_completion(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(raising(ValueError()))
    dispatch(acme, open)
    run_jobs()
    bodies(write_in_a_completion)
    with schema_context(acme.schema_name):
        open.run("x")
    assert groups(acme.schema_name) == ["effect"]


# Links


def called(run_jobs: RunJobs) -> list[tuple[str, Any]]:
    """Where the linked jobs ran, and with what."""
    calls: list[tuple[str, Any]] = []
    bodies(lambda task, *args: calls.append((connection.schema_name, list(args))))
    run_jobs()
    return calls


def test_a_link_is_a_job_of_the_completing_transaction(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: "result")
    job_id = dispatch(acme, atomic, link=[atomic.s("own"), atomic.si("immutable").set(countdown=60)])
    run_jobs(limit=1)
    linked = list(Job.objects.order_by("seq"))
    assert [(job.args, job.tenant_id) for job in linked] == [
        ('["result", "own"]', acme.id),
        ('["immutable"]', acme.id),
    ]
    written = sql(
        "SELECT xmin::text FROM public.jobs_job UNION SELECT xmin::text FROM "
        f'"{acme.schema_name}".django_celery_results_taskresult WHERE task_id = %s',
        job_id,
    )
    assert len(written) == 1
    assert called(run_jobs) == [(acme.schema_name, ["result", "own"])]


def test_an_errback_is_a_job_of_the_transaction_of_the_death(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(raising(ValueError()))
    job_id = dispatch(acme, atomic, link_error=atomic.s("reason"), link=atomic.s("never"))
    run_jobs(limit=1)
    assert called(run_jobs) == [(acme.schema_name, [job_id, "reason"])]


def test_no_errback_before_it_is_dead(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: task.retry(countdown=60))
    dispatch(acme, atomic, link_error=atomic.s())
    run_jobs()
    assert Job.objects.count() == 1


def test_a_link_that_was_built_in_another_tenant_belongs_there(acme: Tenant, globex: Tenant, run_jobs: RunJobs) -> None:
    with schema_context(globex.schema_name):
        theirs = atomic.s("theirs")
    bodies(lambda task: "result")
    dispatch(acme, atomic, link=theirs)
    run_jobs(limit=1)
    assert called(run_jobs) == [(globex.schema_name, ["result", "theirs"])]


@pytest.mark.parametrize("end", [lambda task: "done", raising(ValueError())], ids=["link", "link_error"])
def test_a_link_to_a_tenant_that_is_gone_does_not_keep_the_job_from_its_end(
    acme: Tenant, end: Ending, run_jobs: RunJobs
) -> None:
    with schema_context("gone"):
        lost = atomic.s()
    with_effect(end)
    job_id = dispatch(acme, atomic, link=lost, link_error=lost)
    run_jobs(limit=1)
    assert result_of(acme.schema_name, job_id).status in ("SUCCESS", "FAILURE")
    assert not Job.objects.filter(state="waiting").exists()


def test_a_link_to_a_task_that_is_not_registered_here_waits_for_who_knows_it(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: "result")
    dispatch(acme, atomic, link=current_app.signature("elsewhere.task"))
    assert run_jobs(limit=1) == 1
    assert Job.objects.get().task == "elsewhere.task"


def test_poison_is_dead_lettered_with_its_errback(acme: Tenant, run_jobs: RunJobs) -> None:
    job_id = dispatch(acme, atomic, link_error=atomic.s("poison"))
    Job.objects.update(kills=3, tag=None)
    wake()
    run_maintenance()
    assert Job.objects.get(id=job_id).state == "dead"
    assert result_of(acme.schema_name, job_id).status == "FAILURE"
    assert called(run_jobs) == [(acme.schema_name, [job_id, "poison"])]


def test_one_row_that_can_not_be_dead_lettered_does_not_hold_up_the_others(
    acme: Tenant, globex: Tenant, run_jobs: RunJobs
) -> None:
    broken, fine = dispatch(acme, atomic), dispatch(globex, atomic)
    Job.objects.update(kills=3, tag=None)
    Tenant.objects.filter(id=acme.id).update(schema_name="gone")
    run_maintenance()
    assert Job.objects.get(id=broken).state == "waiting"
    assert Job.objects.get(id=fine).state == "dead"
