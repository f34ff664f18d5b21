"""The fence: what a worker does that does not hold the job any more changes nothing."""

import uuid
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django_tenants.utils import schema_context

from jobs import endings
from jobs.claim import Lease
from jobs.endings import LeaseLost
from jobs.models import Job
from jobs.relay import line, maintenance
from tenants.models import Tenant
from tests.jobs.claims import OVER, change, completing, deliver, dispatch, held
from tests.jobs.durables import atomic, bodies, groups, open, result_of, sql
from tests.people import at_once, await_blocked

ENDINGS: dict[str, Callable[[Lease], bool]] = {
    "death": lambda lease: endings.dead_letter(lease, ValueError()),
    "end": lambda lease: endings.ignore(lease, reason=""),
    "retry": lambda lease: endings.retry(lease, 0, error=ValueError()),
    "hand-back": lambda lease: endings.hand_back(lease.key, error=ValueError(), killed=True),
}


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
    with pytest.raises(LeaseLost), completing(lease):
        sql("INSERT INTO auth_group (name) VALUES ('effect')")
    assert groups(acme.schema_name) == []


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_else_is_recorded_of_an_attempt_waits_for_its_commit_under_way(acme: Tenant, ending: str) -> None:
    """As a killed child's parent does, and a child that has lost the reply: nobody can tell yet whether it commits."""
    lease = held(dispatch(acme))
    completed = Event()

    def child() -> None:
        with transaction.atomic():
            with transaction.atomic():  # or it would be sent with the COMMIT, and nobody could come in between
                endings.complete(lease, "done")
            completed.set()
            await_blocked()

    def other() -> bool:
        assert completed.wait(10)
        return ENDINGS[ending](lease)

    assert at_once(child, other) == [None, False]
    assert result_of(acme.schema_name, lease.id).result == '"done"'


def test_a_hand_back_is_by_token_so_that_a_duplicate_frees_nothing(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    assert not endings.hand_back({"id": lease.id, "token": str(uuid.uuid4())}, error=ValueError("x"), killed=True)
    assert str(Job.objects.get().token) == lease.token


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_ending_counts_without_the_lease(acme: Tenant, ending: str) -> None:
    lease = held(dispatch(acme))
    change(lease.id, OVER)
    held(lease.id)
    before = Job.objects.values().get()
    assert not ENDINGS[ending](lease)
    assert Job.objects.values().get() == before
    with pytest.raises(Exception, match="does not exist"):
        result_of(acme.schema_name, lease.id)


def dead_letter_as_poison(lease: Lease) -> None:
    change(lease.id, f"kills = 3, next_send_at = clock_timestamp(), {OVER}")
    maintenance.run_maintenance()


def run_again(lease: Lease) -> None:
    change(lease.id, "state = 'dead'")
    assert endings.replay(Job.objects.get())


AFTER_WHICH_THE_ROW_STAYS: dict[str, Callable[[Lease], Any]] = {
    **{ending: ENDINGS[ending] for ending in ("death", "retry", "hand-back")},
    "death as poison": dead_letter_as_poison,
    "replay": run_again,
}


@pytest.mark.parametrize("ending", AFTER_WHICH_THE_ROW_STAYS)
def test_no_token_outlives_its_attempt_so_that_a_worker_that_thaws_completes_nothing(acme: Tenant, ending: str) -> None:
    lease = held(dispatch(acme))
    AFTER_WHICH_THE_ROW_STAYS[ending](lease)
    assert Job.objects.get().token is None
    with pytest.raises(LeaseLost), completing(lease) as done:
        done.result = "thawed"


def test_no_worker_completes_a_job_that_is_dead(acme: Tenant) -> None:
    lease = held(dispatch(acme))
    assert endings.dead_letter(lease, ValueError("hard limit"))
    with pytest.raises(LeaseLost), completing(lease) as done:
        done.result = "too late"
    assert result_of(acme.schema_name, lease.id).status == "FAILURE"


def test_a_result_is_never_overwritten(acme: Tenant) -> None:
    first, second = dispatch(acme), dispatch(acme)
    with completing(held(first)) as done:
        done.result = "first"
    change(second, f"id = '{first}'")
    with completing(held(first)) as done:
        done.result = "second"
    assert result_of(acme.schema_name, first).result == '"first"'


HANDS_IT_ON: dict[str, Callable[[Lease], bool]] = {
    "retry": lambda lease: endings.retry(lease, 3600, error=ValueError()),
    "hand-back": lambda lease: endings.hand_back(lease.key, error=ValueError(), delay=3600),
}


@pytest.mark.parametrize("ending", HANDS_IT_ON)
def test_a_job_that_is_to_run_later_leaves_the_line_that_it_joined_when_its_lease_ran_out(
    acme: Tenant, ending: str
) -> None:
    lease = held(dispatch(acme))
    change(lease.id, f"next_send_at = clock_timestamp(), {OVER}")
    assert line.wake() == 1
    assert HANDS_IT_ON[ending](lease)
    assert line.mark(10) == []
