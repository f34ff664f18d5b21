"""Hooks of tasks run at home, with the arguments of the body, and change nothing of what became of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.models import Job
from tenants.models import Tenant
from tests.jobs import probes
from tests.jobs.conftest import ended, eventually, results_of, worker_and_relay
from tests.jobs.durables import groups, result_of, sql
from tests.jobs.hooked import Hooked, hooked, hooked_outside, noted

# What follows the body
FOLLOWING = {
    "success": ["on_success", "after_return"],
    "failure": ["on_failure", "after_return"],
    "retry": ["on_retry"],
}
# The hooks of the three that may do a deed of their own, and the ending that they are of.
ENDING_OF = {"on_success": "success", "on_failure": "failure", "on_retry": "retry"}
STATE_OF = {"success": "SUCCESS", "failure": "FAILURE", "retry": "SUCCESS"}

KINDS = pytest.mark.parametrize(
    ("task", "durable"),
    [(hooked, True), (hooked_outside, True), (hooked, False)],
    ids=["atomic job", "job outside of transactions", "plain task"],
)


@pytest.fixture(scope="module")
def processes(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A relay, and a worker with one child, for all tests of this module."""
    with worker_and_relay(tmp_path_factory.mktemp("hooks"), "-c", "1", LOG_JSON="1") as worker:
        yield worker


@pytest.fixture
def worker(processes: Process, committed_db: None) -> Process:
    assert processes.running
    return processes


def send(task: Any, tenant: Tenant, *, durable: bool, **kwargs: Any) -> str:
    with schema_context(tenant.schema_name):
        return str(task.delay_on_commit("ada", **kwargs) if durable else task.delay("ada", **kwargs).id)


def order() -> list[str]:
    """Hooks and bodies in the order in which they ran."""
    return [note["name"] for note in probes.ran()]


@KINDS
@pytest.mark.parametrize("ending", FOLLOWING)
def test_every_hook_is_at_home_and_gets_what_the_body_got(
    worker: Process, acme: Tenant, task: Any, durable: bool, ending: str
) -> None:
    task_id = send(task, acme, durable=durable, colour="red", ending=ending)
    expected = ["before_start", "body", *FOLLOWING[ending]]
    if ending == "retry":
        expected += ["before_start", "body", *FOLLOWING["success"]]
    eventually(lambda: ended(task_id) and len(order()) >= len(expected), "it ended, and its hooks")

    assert order() == expected
    assert {note["schema"] for note in probes.ran()} == {acme.schema_name}
    assert {note["believed"] for note in probes.ran()} == {acme.schema_name}
    for note in probes.ran():
        assert note["arguments"] == [["ada"], {"colour": "red", "ending": ending}]


@pytest.mark.parametrize(("ending", "left"), [("success", ["before_start", "body"]), ("failure", [])])
def test_what_before_start_writes_shares_the_fate_of_an_atomic_body(
    worker: Process, acme: Tenant, ending: str, left: list[str]
) -> None:
    task_id = send(hooked, acme, durable=True, ending=ending, deeds={"before_start": "write"})
    eventually(lambda: ended(task_id), "it ended")
    assert groups(acme.schema_name) == left


@KINDS
@pytest.mark.parametrize("deed", ["fail", "cancel"])
def test_a_before_start_that_raises_is_a_body_that_raised(
    worker: Process, acme: Tenant, task: Any, durable: bool, deed: str
) -> None:
    task_id = send(task, acme, durable=durable, deeds={"before_start": deed})
    eventually(lambda: ended(task_id) and len(order()) >= 3, "it ended, and its hooks")

    assert order() == ["before_start", "on_failure", "after_return"]
    assert results_of(task_id) == {acme.schema_name: "FAILURE"}
    assert "before_start" in result_of(acme.schema_name, task_id).result


@KINDS
@pytest.mark.parametrize("deed", ["fail", "cancel", "begin", "wander"])
@pytest.mark.parametrize("hook", ENDING_OF)
def test_whatever_a_hook_does_after_the_end_the_outcome_stays_and_the_next_hook_is_at_home(
    worker: Process, acme: Tenant, task: Any, durable: bool, hook: str, deed: str
) -> None:
    ending = ENDING_OF[hook]
    task_id = send(task, acme, durable=durable, ending=ending, deeds={hook: deed, "after_return": "write"})
    eventually(lambda: ended(task_id) and "after_return" in groups(acme.schema_name), "it ended, and its hooks")
    idle = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    eventually(lambda: not sql(idle), "no transaction is left open")

    assert order().count("on_failure") == (ending == "failure")
    assert order()[-1] == "after_return"
    assert probes.ran()[-1]["schema"] == acme.schema_name
    assert results_of(task_id) == {acme.schema_name: STATE_OF[ending]}
    assert [name for name in groups(acme.schema_name) if name.endswith("never committed")] == []
    assert groups("public") == []


@pytest.mark.parametrize(
    ("task", "ending", "ran"),
    [(hooked, "success", ["body"]), (hooked_outside, "completion", ["body", "after completion"])],
    ids=["atomic", "completion"],
)
@pytest.mark.parametrize("deed", ["fail", "divide by zero", "cancel", "begin"])
def test_an_on_commit_hook_that_raises_does_so_after_the_end_of_its_job(
    worker: Process, acme: Tenant, task: Any, ending: str, ran: list[str], deed: str
) -> None:
    job_id = send(task, acme, durable=True, ending=ending, deeds={"on_commit": deed, "after_return": "write"})
    eventually(lambda: "after_return" in groups(acme.schema_name), "its hooks")

    assert order() == ["before_start", *ran, "on_success", "after_return"]
    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert groups(acme.schema_name) == ["after_return", "body"]
    assert not Job.objects.exists()
    assert "was held elsewhere" not in worker.output
    if deed == "begin":
        assert f"Job {job_id} left a transaction open after its end" in worker.output
    else:
        told = f"An on_commit hook of job {job_id} raised"
        assert worker.output.count(told) == 1
        assert "Traceback" in worker.output.partition(told)[2]


@KINDS
def test_a_hook_that_exits_ends_its_child_and_not_the_task(
    worker: Process, acme: Tenant, task: Any, durable: bool
) -> None:
    task_id = send(task, acme, durable=durable, deeds={"on_success": "exit"})
    eventually(lambda: ended(task_id), "it ended")
    after = send(hooked, acme, durable=True, ending="failure")
    eventually(lambda: ended(after), "the next one ended")

    assert results_of(task_id) == {acme.schema_name: "SUCCESS"}
    assert groups(acme.schema_name) == ["body"]
    assert not Job.objects.filter(id=task_id).exists()


def test_a_soft_limit_ends_a_hook_that_hangs(worker: Process, acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        job_id = hooked.apply_async_on_commit(kwargs={"deeds": {"on_success": "hang"}}, soft_time_limit=1)
    eventually(lambda: "after_return" in order(), "the hook after it")

    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert "SoftTimeLimitExceeded" in worker.output


@pytest.mark.parametrize(
    ("task", "ending", "hook", "ran"),
    [
        (hooked, "success", "on_commit", ["body"]),
        (hooked_outside, "completion", "on_commit", ["body"]),
        (hooked, "success", "on_success", ["body", "on_success"]),
        (hooked_outside, "success", "on_success", ["body", "on_success"]),
        (hooked, "failure", "on_failure", ["body", "on_failure"]),
        (hooked, "success", "after_return", ["body", "on_success", "after_return"]),
    ],
)
def test_a_hard_limit_in_a_hook_ends_its_child_and_calls_no_hook_of_another_outcome(
    worker: Process, acme: Tenant, task: Any, ending: str, hook: str, ran: list[str]
) -> None:
    with schema_context(acme.schema_name):
        job_id = task.apply_async_on_commit(
            ["ada"],
            {"ending": ending, "deeds": {hook: "hang hard"}},
            link_error=noted.si(),
            soft_time_limit=1,
            time_limit=2,
        )
    worker.wait_for(f"The time limit of job {job_id}, 2.0 s, changes nothing of its outcome")
    after = send(hooked, acme, durable=True)
    eventually(lambda: ended(after) and order()[-1] == "after_return", "the next one ended, and its hooks")

    failed = ending == "failure"
    assert results_of(job_id) == {acme.schema_name: "FAILURE" if failed else "SUCCESS"}
    names = [name for name in order() if name != "errback"]
    assert names == ["before_start", *ran, "before_start", "body", "on_success", "after_return"]
    assert order().count("errback") == failed


def test_a_hook_is_not_called_for_an_attempt_that_does_not_count(worker: Process, acme: Tenant) -> None:
    """The body sees another worker take its job over: the outcome is that worker's."""
    job_id = send(hooked, acme, durable=True, ending="robbed")
    eventually(lambda: "body" in order(), "its body")
    sql("UPDATE public.jobs_job SET token = gen_random_uuid() WHERE id = %s", job_id)
    probes.go()
    worker.wait_for(f"Job {job_id} had ended, or was held elsewhere")
    after = send(hooked, acme, durable=False, ending="failure")
    eventually(lambda: ended(after) and order()[-1] == "after_return", "the next one's end")

    assert order() == ["before_start", "body", "before_start", "body", "on_failure", "after_return"]


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("hook", ["on_failure", "on_retry"])
def test_no_hook_is_called_in_a_workers_main_process(monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    """Whatever that has bound: a signal may interrupt what it does in `public`."""
    called: list[str] = []
    monkeypatch.setattr(Hooked, hook, lambda *args: called.append(hook))
    with schema_context("public"):
        getattr(hooked, hook)(ValueError(), "an id", ("ada",), {}, None)
    assert called == []


def test_a_log_line_names_its_task_though_its_class_forgets_super(worker: Process, acme: Tenant) -> None:
    task_id = send(hooked, acme, durable=False, deeds={"after_return": "fail"})
    told = f"after_return of {hooked.name}[{task_id}] raised"
    worker.wait_for(told)

    [line] = [line for line in worker.output.splitlines() if told in line]
    assert f'"job_id": "{task_id}"' in line
    assert f'"tenant": "{acme.schema_name}"' in line
