"""Claim, gate and the fence: who may run a job, and whose effects count."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django_tenants.utils import schema_context

from jobs import deletion, execution
from jobs import lease as leases
from jobs.lease import Lease, LeaseLost
from jobs.models import Job
from jobs.testing import receive
from tenants.connection import connection
from tenants.models import Tenant
from tenants.services import delete_tenant, resume_tenant, suspend_tenant
from tests.jobs.conftest import eventually
from tests.jobs.durables import atomic, bodies, groups, message_of, open, result_of, sql
from tests.people import at_once

OVER = "lease_until = clock_timestamp() - interval '1 second'"


def dispatch(tenant: Tenant, *args: Any, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        job_id: str = atomic.apply_async_on_commit(args, **options)
    return job_id


def claim(job_id: str, *, task: str = atomic.name, token: str = "", hard_limit: float = 30) -> Lease | None:
    return leases.claim(job_id, task=task, token=token or str(uuid.uuid4()), hard_limit=hard_limit)


def held(job_id: str, **options: Any) -> Lease:
    lease = claim(job_id, **options)
    assert lease
    return lease


def change(job_id: str, assignment: str) -> None:
    sql(f"UPDATE public.jobs_job SET {assignment} WHERE id = %s", job_id)


# Claim


def test_a_claim_takes_the_job_with_its_arguments_from_the_row(acme: Tenant) -> None:
    lease = held(dispatch(acme, "one", 2))
    assert (lease.schema, lease.args, lease.kwargs, lease.attempt) == (acme.schema_name, ["one", 2], {}, 1)


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


def deliver(job_id: str) -> None:
    receive(message_of(job_id))


def test_a_claim_after_the_lease_is_over_counts_it_as_lost(acme: Tenant) -> None:
    job_id = dispatch(acme)
    held(job_id)
    change(job_id, OVER)
    assert held(job_id).attempt == 2
    assert Job.objects.get().lost == 1


def suspend(job_id: str) -> None:
    suspend_tenant(Tenant.objects.get(slug="acme"))


def delete(job_id: str) -> None:
    delete_tenant(Tenant.objects.get(slug="acme"))


REFUSALS: dict[str, Callable[[str], Any]] = {
    "it is not due": lambda job_id: change(job_id, "due_at = clock_timestamp() + interval '1 second'"),
    "it has expired": lambda job_id: change(job_id, "expires_at = clock_timestamp()"),
    "it is dead": lambda job_id: change(job_id, "state = 'dead'"),
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
        return leases.pass_gate(lease)


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
        lock_out(acme)
        assert at_once(lambda: passes(lease)) == [False]
    assert passes(lease)


def lock_out(tenant: Tenant) -> None:
    """As its deletion does, until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(deletion.LOCK, {"class": leases.TENANT_LOCK, "tenant": str(tenant.id)})
        assert cursor.fetchone() == (True,)


@pytest.mark.usefixtures("committed_db")
def test_no_tenant_is_dropped_while_a_body_is_past_the_gate(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    with transaction.atomic():
        assert leases.pass_gate(lease)
        at_once(lambda: change(lease.id, OVER))  # its worker was frozen, say
        at_once(lambda: delete_tenant(acme))
        assert at_once(lambda: deletion.delete_when_idle(acme)) == [False]


def test_a_job_that_the_gate_refused_runs_when_its_tenant_is_back(
    acme: Tenant, run_jobs: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies(lambda task: "done")
    job_id = dispatch(acme)
    claim = leases.claim

    def claim_and_suspend(*args: Any, **options: Any) -> Lease | None:
        lease = claim(*args, **options)
        suspend_tenant(acme)
        return lease

    monkeypatch.setattr(leases, "claim", claim_and_suspend)
    run_jobs()
    job = Job.objects.get()
    assert (job.token, job.kills, job.lost, job.retries) == (None, 0, 0, 0)
    monkeypatch.undo()
    resume_tenant(acme)
    run_jobs()
    assert result_of(acme.schema_name, job_id).status == "SUCCESS"


# The fence: what a worker does that does not hold the job any more


def slow_worker_and_its_successor(acme: Tenant, task: Any) -> str:
    """One worker's lease ends within the body; another one takes the job, and completes it first."""
    frozen: list[Lease] = []

    def body(task: Any, name: str) -> str:
        if frozen:
            Group.objects.create(name="successor")
            return "successor"
        frozen.append(task.request.lease)
        overtake(task.request.id)
        Group.objects.create(name="frozen")
        return "frozen"

    bodies(body)
    with schema_context(acme.schema_name):
        job_id: str = task.delay_on_commit("name")
    deliver(job_id)
    return job_id


def overtake(job_id: str) -> None:
    """The lease of who runs the job ends, and another worker runs it."""
    at_once(lambda: change(job_id, OVER))
    at_once(lambda: deliver(job_id))


@pytest.mark.usefixtures("committed_db")
def test_a_worker_that_lost_its_lease_leaves_nothing(acme: Tenant) -> None:
    job_id = slow_worker_and_its_successor(acme, atomic)
    assert groups(acme.schema_name) == ["successor"]
    result = result_of(acme.schema_name, job_id)
    assert (result.status, result.result) == ("SUCCESS", '"successor"')
    assert not Job.objects.exists()


@pytest.mark.usefixtures("committed_db")
def test_an_effect_within_a_completion_counts_only_for_the_holder(acme: Tenant) -> None:
    completions: list[str] = []

    def body(task: Any) -> None:
        name = f"attempt {Job.objects.get().attempt}"
        if name == "attempt 1":
            overtake(task.request.id)
        with task.completion() as done:
            Group.objects.create(name=name)
            done.result = name
        completions.append(name)

    bodies(body)
    with schema_context(acme.schema_name):
        job_id = open.delay_on_commit()
    deliver(job_id)
    assert completions == groups(acme.schema_name) == ["attempt 2"]
    assert result_of(acme.schema_name, job_id).result == '"attempt 2"'


@pytest.mark.usefixtures("committed_db")
def test_a_lost_lease_fails_on_the_server_so_that_a_commit_on_its_way_fails_too(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    change(lease.id, "token = NULL")
    with schema_context(acme.schema_name), connection.cursor() as cursor:
        cursor.execute("BEGIN; INSERT INTO auth_group (name) VALUES ('effect')")
        with pytest.raises(LeaseLost):
            leases.complete(lease, None)
        cursor.execute("COMMIT")
    assert groups(acme.schema_name) == []


@pytest.mark.usefixtures("committed_db")
def test_a_parent_that_hands_back_waits_for_the_commit_of_its_killed_child(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    completed, tried = Event(), Event()

    def child() -> None:
        with transaction.atomic():
            leases.complete(lease, "done")
            completed.set()
            assert not tried.wait(0.3)  # the parent waits: it can't tell yet whether this commits

    def parent() -> bool:
        assert completed.wait(10)
        hit = leases.hand_back(lease.key, counted=True)
        tried.set()
        return hit

    assert at_once(child, parent) == [None, False]
    assert result_of(acme.schema_name, lease.id).result == '"done"'


def test_a_hand_back_is_by_token_so_that_a_duplicate_frees_nothing(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    assert not leases.hand_back({"id": lease.id, "token": str(uuid.uuid4())}, counted=True)
    assert str(Job.objects.get().token) == lease.token


@pytest.mark.parametrize("ending", ["bury", "end", "retry", "hand_back"])
def test_no_ending_counts_without_the_lease(acme: Tenant, ending: str) -> None:
    lease = held(dispatch(acme))
    change(lease.id, OVER)
    held(lease.id)
    before = Job.objects.values().get()
    endings: dict[str, Callable[[], bool]] = {
        "bury": lambda: leases.bury(lease, error=ValueError()),
        "end": lambda: leases.end(lease, state="IGNORED", reason=""),
        "retry": lambda: leases.retry(lease, 0, error=""),
        "hand_back": lambda: leases.hand_back(lease.key, counted=True),
    }
    assert not endings[ending]()
    assert Job.objects.values().get() == before
    with pytest.raises(Exception, match="does not exist"):
        result_of(acme.schema_name, lease.id)


def test_no_worker_completes_a_job_that_is_dead(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    assert leases.bury(lease, error=ValueError("hard limit"))
    with pytest.raises(LeaseLost), transaction.atomic():
        leases.complete(lease, "too late")
    assert result_of(acme.schema_name, lease.id).status == "FAILURE"


def test_a_result_is_never_overwritten(acme: Tenant) -> None:
    first, second = dispatch(acme), dispatch(acme)
    leases.complete(held(first), "first")
    change(second, f"id = '{first}'")
    leases.complete(held(first), "second")
    assert result_of(acme.schema_name, first).result == '"first"'


# A tenant's lock comes before its jobs' rows


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("ending", ["complete", "bury", "end"])
def test_an_ending_that_waits_for_a_deletion_holds_no_row(acme: Tenant, ending: str) -> None:
    lease = held(dispatch(acme))
    endings: dict[str, Callable[[], Any]] = {
        "complete": lambda: enter_completion(lease),
        "bury": lambda: leases.bury(lease, error=ValueError()),
        "end": lambda: leases.end(lease, state="IGNORED", reason=""),
    }
    dropping = Event()

    def end() -> Any:
        assert dropping.wait(10)
        return endings[ending]()

    def drop() -> None:
        with transaction.atomic():
            lock_out(acme)
            dropping.set()
            eventually(lambda: sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), "it waits")
            sql("SET LOCAL lock_timeout = '1s'")
            sql("DELETE FROM public.jobs_job")

    outcome, _ = at_once(end, drop)
    assert not outcome


def enter_completion(lease: Lease) -> bool:
    with pytest.raises(LeaseLost), execution.completing(lease):
        pass
    return False
