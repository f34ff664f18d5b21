"""Claim and gate: who may run a job."""

import uuid
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django_tenants.utils import schema_context
from pytest_django import Settings

from jobs.claim import Lease, pass_gate, renew
from jobs.models import Job
from jobs.relay import line, maintenance
from jobs.relay.deletion import delete_when_idle
from jobs.statements import CLAIM
from jobs.testing import receive
from tenants.connection import connection
from tenants.models import Tenant
from tenants.services import delete_tenant, resume_tenant, suspend_tenant
from tests.jobs.claims import OVER, change, claim, deliver, dispatch, held, lock_out
from tests.jobs.durables import atomic, bodies, message_of, open, result_of, sql
from tests.people import at_once

# Claim


def test_a_claim_takes_the_job_with_its_arguments_from_the_row(acme: Tenant) -> None:
    lease = held(dispatch(acme, "one", 2))
    assert (lease.schema, lease.args, lease.kwargs, lease.attempt) == (acme.schema_name, ["one", 2], {}, 1)


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize(
    ("task", "sends", "flushed"),
    [(atomic, 1, "off"), (atomic, 2, "on"), (open, 1, "on")],
    ids=["first", "again", "open"],
)
def test_a_claim_is_on_disk_before_the_outside_world_can_be_called(
    acme: Tenant, task: Any, sends: int, flushed: str
) -> None:
    """That of a first attempt which is all in one transaction is forgotten with it, if at all."""
    commits: list[str] = []

    def on_statement(execute: Any, statement: str, parameters: Any, many: bool, context: Any) -> Any:
        result = execute(statement, parameters, many, context)
        if statement == CLAIM:
            commits.append(context["cursor"].fetchone()[-1])
            context["cursor"].scroll(0, mode="absolute")
        return result

    bodies(lambda task: commits.extend(*sql("SHOW synchronous_commit")))
    with schema_context(acme.schema_name):
        job_id = task.delay_on_commit()
    change(job_id, f"sends = {sends}")
    with connection.execute_wrapper(on_statement):
        deliver(job_id)
    assert commits == [flushed, "on"]


def test_a_second_message_claims_nothing(acme: Tenant) -> None:
    job_id = dispatch(acme)
    held(job_id)
    assert claim(job_id) is None


@pytest.mark.usefixtures("committed_db")
def test_of_many_claims_at_once_one_gets_the_job(acme: Tenant) -> None:
    job_id = dispatch(acme)
    claims = at_once(*[lambda: claim(job_id)] * 8)
    assert len([lease for lease in claims if lease]) == 1
    assert Job.objects.get().attempt == 1


def test_a_claim_that_is_repeated_after_a_lost_reply_is_one_attempt(acme: Tenant) -> None:
    job_id, token = dispatch(acme), str(uuid.uuid4())
    assert held(job_id, token=token) == held(job_id, token=token)
    job = Job.objects.get()
    assert (job.attempt, job.lost) == (1, 0)


def test_a_lease_lasts_for_the_hard_limit_and_the_margin_by_the_clock_of_the_database(acme: Tenant) -> None:
    held(dispatch(acme), hard_limit=100)
    [[seconds, alike]] = sql(
        "SELECT extract(epoch FROM lease_until - clock_timestamp()),"
        " next_send_at - lease_until BETWEEN interval '0' AND interval '1 ms' FROM public.jobs_job"
    )
    assert 105 < seconds <= 110
    assert alike  # a killed worker's job is sent again when its lease is over


@pytest.mark.parametrize(("option", "limit"), [({}, 30), ({"time_limit": 100}, 100)])
def test_the_lease_follows_the_limit_of_the_request(acme: Tenant, option: dict[str, Any], limit: float) -> None:
    job_id = dispatch(acme, **option)
    seen: list[timedelta] = []
    bodies(
        lambda task: seen.extend(
            lease for [lease] in sql("SELECT lease_until - clock_timestamp() FROM public.jobs_job")
        )
    )
    deliver(job_id)
    assert limit + 5 < seen[0].total_seconds() <= limit + 10


def test_a_claim_after_the_lease_is_over_counts_it_as_lost(acme: Tenant) -> None:
    job_id = dispatch(acme)
    held(job_id)
    change(job_id, OVER)
    assert held(job_id).attempt == 2
    assert Job.objects.get().lost == 1


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize(("task_is_atomic", "sends"), [(False, 1), (True, 2)])
def test_no_crash_of_the_server_forgets_a_claim_that_may_matter(acme: Tenant, task_is_atomic: bool, sends: int) -> None:
    """That of a job which calls the outside world, and of one which may have taken a worker down before."""
    job_id = dispatch(acme)
    change(job_id, f"sends = {sends}")
    [[written]] = sql("SELECT pg_current_wal_insert_lsn()")
    held(job_id, atomic_task=task_is_atomic)
    assert sql("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", written) == [(True,)]


def suspend(job_id: str) -> None:
    suspend_tenant(Tenant.objects.get(slug="acme"))


def delete(job_id: str) -> None:
    delete_tenant(Tenant.objects.get(slug="acme"))


REFUSALS: dict[str, Callable[[str], Any]] = {
    "it is not due": lambda job_id: change(job_id, "due_at = clock_timestamp() + interval '1 second'"),
    "it has expired": lambda job_id: change(job_id, "expires_at = clock_timestamp()"),
    "it is dead": lambda job_id: change(job_id, "state = 'dead', tag = NULL"),
    "its children were killed": lambda job_id: change(job_id, "kills = 3"),
    "its workers vanished": lambda job_id: change(job_id, "lost = 10"),
    "its tenant is suspended": suspend,
    "its tenant is being deleted": delete,
    "its tenant is gone": lambda job_id: change(job_id, "tenant_id = gen_random_uuid()"),
    "its schema is gone": lambda job_id: sql("UPDATE public.tenants_tenant SET schema_name = 'gone'"),
    "it is another task's": lambda job_id: change(job_id, "task = 'other'"),
    "it has ended": lambda job_id: sql("DELETE FROM public.jobs_job"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_nothing_runs_if(acme: Tenant, case: str) -> None:
    runs: list[None] = []
    bodies(lambda task: runs.append(None))
    job_id = dispatch(acme)
    message = message_of(job_id)
    if case == "its schema is gone":
        Tenant.objects.exclude(slug="acme").delete()
    REFUSALS[case](job_id)
    receive(message)
    assert runs == []
    assert [job.attempt for job in Job.objects.all()] in ([0], [])


# The gate: what may have changed since the claim


def test_a_body_passes_the_gate(acme: Tenant) -> None:
    assert passes(held(dispatch(acme)))


def passes(lease: Lease) -> bool:
    with transaction.atomic():
        return pass_gate(lease)


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("task", [atomic, open], ids=["atomic", "open"])
def test_a_body_may_think_in_its_transaction_for_as_long_as_its_job_may_run(acme: Tenant, task: Any) -> None:
    seen: list[Any] = []

    def think(task: Any) -> None:
        with nullcontext() if task.atomic else task.completion():
            seen.extend(sql("SHOW idle_in_transaction_session_timeout"))

    bodies(think)
    with schema_context(acme.schema_name):
        job_id = task.apply_async_on_commit(time_limit=3600)
    deliver(job_id)
    assert seen == [("3605s",)]
    assert sql("SHOW idle_in_transaction_session_timeout") == [("35s",)]


def test_no_body_starts_after_its_tenant_was_suspended(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    suspend_tenant(acme)
    assert not passes(lease)


def test_no_body_starts_after_its_lease_is_over(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    change(lease.id, OVER)
    assert not passes(lease)


def test_no_body_starts_after_another_worker_claimed_its_job(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    change(lease.id, OVER)
    held(lease.id)
    assert not passes(lease)


@pytest.mark.usefixtures("committed_db")
def test_no_body_starts_while_its_tenant_is_dropped(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    with transaction.atomic():
        assert lock_out(acme)
        assert at_once(lambda: passes(lease)) == [False]
    assert passes(lease)


@pytest.mark.usefixtures("committed_db")
def test_no_tenant_is_dropped_while_a_body_is_past_the_gate(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    with transaction.atomic():
        assert pass_gate(lease)
        at_once(lambda: change(lease.id, OVER))  # its worker was frozen, say
        at_once(lambda: delete_tenant(acme))
        assert at_once(lambda: delete_when_idle(acme)) == [False]


@pytest.mark.usefixtures("committed_db")
def test_the_gate_is_passed_in_the_transaction_of_the_body(acme: Tenant) -> None:
    locked_out: list[bool] = []
    bodies(lambda task: locked_out.extend(at_once(lambda: lock_out(acme))))
    deliver(dispatch(acme))
    assert locked_out == [False]


@pytest.mark.usefixtures("committed_db")
def test_a_job_that_the_gate_refused_runs_when_its_tenant_is_back(acme: Tenant, run_jobs: Callable[..., int]) -> None:
    bodies(lambda task: "done")
    job_id = dispatch(acme)

    def suspend_after_claim(execute: Callable[..., Any], statement: str, *context: Any) -> Any:
        result = execute(statement, *context)
        if statement == CLAIM:
            at_once(lambda: suspend_tenant(acme))
        return result

    with connection.execute_wrapper(suspend_after_claim):
        run_jobs()
    job = Job.objects.get()
    assert (job.token, job.kills, job.lost, job.retries) == (None, 0, 0, 0)
    resume_tenant(acme)
    run_jobs()
    assert result_of(acme.schema_name, job_id).status == "SUCCESS"


# Leases that have run out while nobody could renew them


@pytest.fixture
def just_over(settings: Settings) -> None:
    """An outage: the server has started, and this process has connected, less than a renewal interval ago."""
    settings.JOB_RENEWAL_INTERVAL = 10_000_000


def lost(tenant: Tenant, **columns: int) -> str:
    """A job whose worker has not renewed its lease in time."""
    job_id = dispatch(tenant)
    held(job_id)
    change(job_id, f"{OVER}, next_send_at = clock_timestamp()")
    for column, value in columns.items():
        change(job_id, f"{column} = {value}")
    return job_id


def test_no_claim_takes_over_just_after_an_outage(acme: Tenant, just_over: None) -> None:
    assert claim(lost(acme)) is None
    # What nobody held is nobody's to renew.
    assert claim(dispatch(acme)) is not None


def test_no_relay_sends_to_others_just_after_an_outage(acme: Tenant, just_over: None) -> None:
    job_id = lost(acme)
    line.wake()
    assert line.mark(10) == []
    change(job_id, "tag = 1")
    assert line.mark(10) == []


def test_nothing_is_poison_just_after_an_outage(acme: Tenant, just_over: None) -> None:
    lost(acme, lost=9)
    maintenance.run_maintenance()
    assert Job.objects.get().state == "waiting"


def test_what_nobody_has_renewed_is_taken_over_when_that_has_passed(acme: Tenant) -> None:
    job_id = lost(acme)
    line.wake()
    assert [str(due.id) for due in line.mark(10)] == [job_id]
    assert held(job_id).attempt == 2


def test_a_lease_that_was_renewed_leaves_the_line(acme: Tenant) -> None:
    job_id = dispatch(acme)
    lease = held(job_id)
    change(job_id, f"{OVER}, next_send_at = clock_timestamp()")
    line.wake()
    assert renew({lease.token: job_id}) == 1
    assert line.mark(10) == []
    assert claim(job_id) is None


def test_a_lease_that_another_worker_has_taken_over_is_not_renewed(acme: Tenant) -> None:
    job_id = lost(acme)
    before = str(Job.objects.get().token)
    lease = held(job_id)
    assert renew({before: job_id}) == 0
    assert str(Job.objects.get().token) == lease.token
