"""Results of plain tasks: each state stands in the schema of its task, and nowhere else."""

import json
import signal
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app, group
from celery.result import AsyncResult, GroupResult
from django.utils import timezone
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from devstack.processes import Process
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import ended, eventually, results_of, where_ran
from tests.jobs.probes import ends, errback, fails, own_killed, probe, reports_progress, sleeps, tries_again

# To revoke
ENVIRONMENT = {"WORKER_REMOTE_CONTROL": "1"}


@pytest.fixture(params=["acme", "public"])
def home(request: pytest.FixtureRequest, one_child: Process, acme: Tenant, globex: Tenant) -> Iterator[str]:
    """The schema that a test's tasks are called in: a tenant's and the platform's."""
    schema = acme.schema_name if request.param == "acme" else "public"
    with schema_context(schema):
        yield schema


def expect(result: AsyncResult[Any], home: str, state: str) -> None:
    eventually(lambda: results_of(result.id) == {home: state}, f"{state} in {home}, not {results_of(result.id)}")


def afterwards() -> None:
    """Waits for a later task."""
    name = str(uuid.uuid4())
    probe.delay(name)
    eventually(lambda: where_ran(name), "a later task ran")


def test_started_and_success(home: str) -> None:
    result = sleeps.delay("one", seconds=1)
    expect(result, home, "STARTED")
    expect(result, home, "SUCCESS")
    row = TaskResult.objects.get(task_id=result.id)
    assert (row.task_name, row.task_args, row.date_started < row.date_done) == (
        "tests.jobs.probes.sleeps",
        json.dumps("('one',)"),
        True,
    )


def test_a_state_of_the_bodys_own(home: str) -> None:
    result = reports_progress.delay("one")
    expect(result, home, "PROGRESS")
    probes.go()
    expect(result, home, "SUCCESS")


def test_retry(home: str) -> None:
    result = tries_again.delay("one", countdown=60)
    expect(result, home, "RETRY")
    current_app.control.revoke(result.id)


def test_failure(home: str) -> None:
    expect(fails.delay("one"), home, "FAILURE")


def test_soft_limit(home: str) -> None:
    result = sleeps.apply_async(("one",), soft_time_limit=0.2)
    expect(result, home, "FAILURE")
    assert "SoftTimeLimitExceeded" in TaskResult.objects.get(task_id=result.id).result


def test_hard_limit(home: str) -> None:
    result = sleeps.apply_async(("one", 60, True), soft_time_limit=0.2, time_limit=0.4)
    expect(result, home, "FAILURE")
    assert "TimeLimitExceeded" in TaskResult.objects.get(task_id=result.id).result


def test_a_hard_limit_below_the_default_soft_one_counts(home: str) -> None:
    result = sleeps.apply_async(("one", 60, True), time_limit=0.5)
    eventually(lambda: ended(result.id), "it was killed")
    expect(result, home, "FAILURE")


@pytest.mark.parametrize("ending", ["kill -9", "SystemExit"])
def test_killed(home: str, ending: str) -> None:
    result = ends.delay("one", ending)
    expect(result, home, "FAILURE")
    assert "WorkerLostError" in TaskResult.objects.get(task_id=result.id).result


def test_killed_after_success(home: str) -> None:
    """It stays SUCCESS, and the errbacks are not called."""
    result = own_killed.apply_async(("one",), link_error=errback.si("x"))
    expect(result, home, "SUCCESS")
    afterwards()
    afterwards()
    expect(result, home, "SUCCESS")
    assert where_ran("errback") == []


def test_rejected(home: str) -> None:
    expect(ends.delay("one", "Reject"), home, "FAILURE")


def test_expired(home: str) -> None:
    result = probe.apply_async(("one",), expires=timezone.now() - timedelta(seconds=1))
    expect(result, home, "REVOKED")
    afterwards()
    assert where_ran("one") == []


def test_revoked_before_its_receipt(home: str) -> None:
    result = AsyncResult(str(uuid.uuid4()))
    _revoke(result)
    assert results_of(result.id) == {}
    probe.apply_async(("one",), task_id=result.id)
    expect(result, home, "REVOKED")
    afterwards()
    assert where_ran("one") == []


def test_revoked_while_it_waits_in_the_worker(home: str) -> None:
    running = reports_progress.delay("running")
    waiting = probe.delay("waiting")
    eventually(lambda: _is_known(waiting), "the worker received it")
    _revoke(waiting)
    expect(waiting, home, "REVOKED")

    probes.go()
    expect(running, home, "SUCCESS")
    afterwards()
    assert where_ran("waiting") == []


def test_revoked_while_it_waits_for_its_time(home: str) -> None:
    result = probe.apply_async(("one",), countdown=5)
    eventually(lambda: _is_known(result), "the worker received it")
    _revoke(result)
    expect(result, home, "REVOKED")
    afterwards()
    assert where_ran("one") == []


def _revoke(result: AsyncResult[Any]) -> None:
    assert current_app.control.revoke(result.id, reply=True, limit=1, timeout=20)


def _is_known(result: AsyncResult[Any]) -> bool:
    replies = current_app.control.inspect(limit=1, timeout=20).query_task(result.id) or {}
    return any(result.id in reply for reply in replies.values())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_revoked_while_it_runs(home: str, how: signal.Signals) -> None:
    result = sleeps.delay("one")
    eventually(lambda: where_ran("one"), "it runs")
    current_app.control.revoke(result.id, terminate=True, signal=how.name)
    expect(result, home, "REVOKED")


def test_unregistered(home: str) -> None:
    expect(current_app.send_task("tests.jobs.probes.unknown"), home, "FAILURE")


def test_a_chain_that_breaks(home: str) -> None:
    result = (fails.si("one") | probe.si("two")).delay()
    expect(result, home, "FAILURE")
    assert result.parent is not None
    expect(result.parent, home, "FAILURE")


def test_a_group_is_restored_at_home_alone(home: str, globex: Tenant) -> None:
    result = group(probe.s("one"), probe.s("two"))()
    result.save()
    assert sorted(result.get(timeout=20)) == [home, home]
    assert GroupResult.restore(result.id) == result
    with schema_context(globex.schema_name):
        assert GroupResult.restore(result.id) is None


def test_a_result_is_readable_at_home_alone(home: str, globex: Tenant) -> None:
    result = probe.delay("one")
    assert result.get(timeout=20) == home
    with schema_context(globex.schema_name):
        assert AsyncResult(result.id).state == "PENDING"


def test_a_late_duplicate_leaves_success_as_it_is(home: str) -> None:
    first = sleeps.delay("one", seconds=0)
    expect(first, home, "SUCCESS")
    done = TaskResult.objects.get(task_id=first.id).date_done

    sleeps.apply_async(("duplicate",), {"seconds": 1}, task_id=first.id)
    eventually(lambda: where_ran("duplicate"), "the duplicate runs")
    assert results_of(first.id) == {home: "SUCCESS"}
    afterwards()
    row = TaskResult.objects.get(task_id=first.id)
    assert (row.status, row.date_done, row.result) == ("SUCCESS", done, '"one"')


def test_pickle_is_refused(home: str, one_child: Process) -> None:
    result = probe.apply_async(("pickled",), serializer="pickle")
    afterwards()
    assert where_ran("pickled") == []
    assert "pickle" in one_child.output
    assert results_of(result.id) == {}


def test_the_clean_up_reaches_every_tenant(one_child: Process, acme: Tenant, globex: Tenant) -> None:
    """A suspended one too. It may be called in a tenant: it is the platform's work all the same."""
    homes = ("public", acme.schema_name, globex.schema_name)
    for schema in homes:
        with schema_context(schema):
            for days in (1, 30):
                row = TaskResult.objects.create(task_id=f"{days} days old")
                TaskResult.objects.filter(pk=row.pk).update(date_done=timezone.now() - timedelta(days=days))
    Tenant.objects.filter(pk=acme.pk).update(status=Tenant.Status.SUSPENDED)
    Tenant.objects.create(name="Initech", slug="initech", schema_name="initech", status=Tenant.Status.ACTIVE)

    with schema_context(globex.schema_name):
        expect(current_app.tasks["celery.backend_cleanup"].delay(), globex.schema_name, "SUCCESS")
    assert results_of("1 days old") == dict.fromkeys(homes, "PENDING")
    assert results_of("30 days old") == {}
