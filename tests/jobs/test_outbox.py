"""Dispatch: a durable job is a row of its caller's transaction, in the schema of the call, exactly as it was called."""

import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Task, chain, chord, current_app, group
from django.contrib.auth.models import Group
from django.db import DataError, connection, connections, transaction
from django.db.models import Max
from django.utils import timezone
from django_tenants.utils import schema_context
from pytest_django import DjangoAssertNumQueries

from jobs.claim import Lease, claim
from jobs.models import Job
from jobs.outbox import Terms
from jobs.relay.line import mark, wake
from jobs.schema import TenantUnavailable
from jobs.task import TenantTask
from jobs.tasks import run_in_each_tenant
from tenants.models import Tenant
from tenants.services import suspend_tenant
from tests.jobs.durables import atomic, bodies, result_of
from tests.jobs.probes import probe
from tests.people import at_once
from tests.wire import queries

RunJobs = Callable[..., int]


def committed_jobs() -> list[str]:
    """The jobs that another connection sees."""
    [ids] = at_once(lambda: [str(id) for id in Job.objects.order_by("seq").values_list("id", flat=True)])
    return ids


@pytest.mark.usefixtures("committed_db")
def test_a_job_exists_when_its_transaction_has_committed() -> None:
    with transaction.atomic():
        job_id = probe.delay_on_commit("one")
        assert committed_jobs() == []
    assert committed_jobs() == [job_id]


@pytest.mark.usefixtures("committed_db")
def test_a_rollback_leaves_no_job() -> None:
    with transaction.atomic():
        probe.delay_on_commit("one")
        transaction.set_rollback(True)
    assert committed_jobs() == []


@pytest.mark.usefixtures("committed_db")
def test_a_rollback_of_a_savepoint_leaves_no_job_of_it() -> None:
    with transaction.atomic():
        kept = probe.delay_on_commit("kept")
        with transaction.atomic():
            probe.delay_on_commit("gone")
            transaction.set_rollback(True)
    assert committed_jobs() == [kept]


@pytest.fixture
def other_database(committed_db: None) -> Iterator[str]:
    """The same one, by another alias, which knows no tenants."""
    connections.settings["other"] = {**connections.settings["default"], "ENGINE": "django.db.backends.postgresql"}
    yield "other"
    connections["other"].close()
    del connections["other"], connections.settings["other"]


@pytest.mark.parametrize("dispatch", ["delay_on_commit", "map_on_commit", "for_each_tenant_on_commit"])
def test_a_transaction_of_another_database_alone_is_refused(other_database: str, dispatch: str) -> None:
    with (
        transaction.atomic(using=other_database),
        pytest.raises(transaction.TransactionManagementError, match=other_database),
    ):
        getattr(probe, dispatch)([("name",)] if dispatch == "map_on_commit" else "name")
    assert committed_jobs() == []


def test_a_transaction_of_both_databases_is_the_jobs_too(other_database: str) -> None:
    with transaction.atomic(using=other_database), transaction.atomic():
        job_id = probe.delay_on_commit("one")
    assert committed_jobs() == [job_id]


@pytest.mark.usefixtures("committed_db")
def test_in_autocommit_mode_a_job_exists_at_once() -> None:
    job_id = probe.delay_on_commit("one")
    assert committed_jobs() == [job_id]


def test_the_returned_id_is_the_task_id(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: task.request.id)
    with schema_context(acme.schema_name):
        job_id = atomic.delay_on_commit()
    assert str(uuid.UUID(job_id)) == job_id
    run_jobs()
    assert result_of(acme.schema_name, job_id).result == f'"{job_id}"'


@pytest.mark.usefixtures("committed_db")
def test_a_dispatch_needs_no_broker_and_is_sent_when_called(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_app, "send_task", None)
    with queries() as sent, schema_context(acme.schema_name), transaction.atomic():
        Group.objects.create(name="a row")
        probe.delay_on_commit("one")
    assert len(sent) == 3
    assert sent[1].startswith("SELECT public.jobs_dispatch(")
    assert sent[2].endswith("; COMMIT")
    assert Job.objects.count() == 1


@pytest.mark.usefixtures("committed_db")
def test_what_comes_after_it_in_its_transaction_sees_the_job(acme: Tenant) -> None:
    with schema_context(acme.schema_name), transaction.atomic():
        job_id = probe.delay_on_commit("one")
        assert str(Job.objects.get().id) == job_id


# Whose it is


def test_a_job_belongs_to_the_tenant_of_the_call_not_of_the_commit(acme: Tenant, globex: Tenant) -> None:
    with transaction.atomic():
        for tenant in (acme, globex):
            with schema_context(tenant.schema_name):
                probe.delay_on_commit(tenant.slug)
        probe.delay_on_commit("public")
    homes = [job.tenant and job.tenant.slug for job in Job.objects.select_related("tenant").order_by("seq")]
    assert homes == ["acme", "globex", None]


@pytest.mark.usefixtures("committed_db")
def test_without_a_tenant_nothing_is_committed() -> None:
    @transaction.atomic
    def write() -> None:
        Group.objects.create(name="a row")
        with schema_context("gone"):
            probe.delay_on_commit("nowhere")

    with pytest.raises(DataError, match=f"{probe.name} was called in the schema gone"):
        write()
    assert not Group.objects.exists()
    assert not Job.objects.exists()


@pytest.mark.usefixtures("committed_db")
def test_without_a_tenant_a_dispatch_in_autocommit_mode_is_refused() -> None:
    with schema_context("gone"), pytest.raises(DataError, match=f"{probe.name} was called in the schema gone"):
        probe.delay_on_commit("nowhere")
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_without_a_tenant_map_is_refused_and_its_transaction_lives_on() -> None:
    with schema_context("gone"), pytest.raises(TenantUnavailable, match="No tenant has the schema"):
        probe.map_on_commit([("nowhere",)])
    assert not Job.objects.exists()


def test_a_job_for_each_active_tenant_is_one_statement(
    acme: Tenant, globex: Tenant, django_assert_num_queries: DjangoAssertNumQueries, run_jobs: RunJobs
) -> None:
    with django_assert_num_queries(1):
        assert probe.for_each_tenant_on_commit("all") == 2
    suspend_tenant(globex)
    assert probe.for_each_tenant_on_commit("active") == 1
    jobs = Job.objects.select_related("tenant").order_by("seq")
    assert sorted((job.tenant.slug, job.args) for job in jobs if job.tenant) == [
        ("acme", '["active"]'),
        ("acme", '["all"]'),
        ("globex", '["all"]'),
    ]


@pytest.mark.usefixtures("committed_db")
def test_a_job_for_each_tenant_stands_behind_what_its_tenant_has_in_line(acme: Tenant, globex: Tenant) -> None:
    """So a tenant that has queued much is not served twice in a turn."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value FROM public.jobs_virtual_time")
        [virtual_time] = cursor.fetchone()
    with schema_context(acme.schema_name), transaction.atomic():
        probe.map_on_commit([(f"{number}",) for number in range(3)])

    run_in_each_tenant(probe.name, ["everywhere"], {})

    everywhere = Job.objects.filter(args__contains="everywhere")
    places = dict(everywhere.values_list("tenant__slug", "tag"))
    last = Job.objects.filter(tenant=acme).exclude(pk__in=everywhere).aggregate(Max("tag"))["tag__max"]
    assert places == {"acme": last + 1, "globex": virtual_time}


# What it is called with

VALUES: list[Any] = [
    "\0 and ☃ and \\u0000 and 'quoted' and %s",
    "\ud800",
    2**80,
    -0.1,
    1e300,
    None,
    True,
    {"nested": [{"deep": ["0.1", [[]]]}, {}]},
]


def test_arguments_arrive_as_they_were(acme: Tenant, run_jobs: RunJobs) -> None:
    received: list[Any] = []
    bodies(lambda task, *args, **kwargs: received.append((args, kwargs)))
    with schema_context(acme.schema_name):
        atomic.delay_on_commit(*VALUES, keyword=VALUES[-1])
    run_jobs()
    assert received == [(tuple(VALUES), {"keyword": VALUES[-1]})]
    assert [type(value) for value in received[0][0]] == [type(value) for value in VALUES]


@current_app.task(bind=True, typing=False, name="tests.untyped")
def untyped(self: TenantTask, name: str) -> None: ...


@current_app.task(bind=True, expires=5, name="tests.short_lived")
def short_lived(self: TenantTask, name: str) -> None: ...


class Plain(TenantTask):
    name = "tests.a_class"

    def run(self, name: str) -> None: ...


def test_tasks_without_a_signature_to_check_are_dispatched(acme: Tenant) -> None:
    current_app.register_task(Plain())
    untyped.delay_on_commit()
    current_app.tasks["tests.a_class"].delay_on_commit("one")
    assert Job.objects.count() == 2


cyclic: list[Any] = []
cyclic.append(cyclic)
SOON = datetime(2030, 1, 1, tzinfo=UTC)
REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "an object": ((object(),), {}),
    "a set within": (({"of": {1, 2}},), {}),
    "itself": ((cyclic,), {}),
    "too few": ((), {}),
    "queue": (("name",), {"queue": "celery"}),
    "priority": (("name",), {"priority": 3}),
    "headers": (("name",), {"headers": {}}),
    "task_id": (("name",), {"task_id": "mine"}),
    "eta and countdown": (("name",), {"eta": SOON, "countdown": 1}),
    "a naive eta": (("name",), {"eta": datetime(2030, 1, 1)}),
    "an eta in words": (("name",), {"eta": "tomorrow"}),
    "naive expires": (("name",), {"expires": datetime(2030, 1, 1)}),
    "countdown in words": (("name",), {"countdown": "5"}),
    "time_limit in words": (("name",), {"time_limit": "5 s"}),
    "a chain linked": (("name",), {"link": chain(probe.s("a"), probe.s("b"))}),
    "a group linked": (("name",), {"link": group(probe.s("a"), probe.s("b"))}),
    "a chord linked": (("name",), {"link_error": chord([probe.s("a")], probe.s("b"))}),
    "a link with a queue": (("name",), {"link": probe.s("a").set(queue="celery")}),
    "a link with a naive eta": (("name",), {"link": probe.s("a").set(eta=datetime(2030, 1, 1))}),
    "a link with an object": (("name",), {"link": probe.s(object())}),
    "a link of a link with a queue": (("name",), {"link": probe.s("a").set(link=probe.s("b").set(queue="celery"))}),
    "a link that is none": (("name",), {"link": 7}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_durable_is_refused_at_the_call(acme: Tenant, case: str) -> None:
    args, options = REFUSED[case]
    with transaction.atomic(), pytest.raises(TypeError):
        probe.apply_async_on_commit(args, **options)
    assert not Job.objects.exists()


def test_the_refusal_says_what_a_durable_job_takes(acme: Tenant) -> None:
    with pytest.raises(TypeError, match=r"no priority, queue.* What it takes: countdown, eta, expires"):
        probe.apply_async_on_commit(("name",), priority=1, queue="celery")


# Many


def test_map_makes_a_job_of_each_in_order(acme: Tenant, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with schema_context(acme.schema_name):
        Job.objects.exists()
        with django_assert_num_queries(2 + 3):  # a savepoint, and three batches
            ids = probe.map_on_commit((f"name {number}",) for number in range(2500))
    jobs = Job.objects.order_by("seq")
    assert [str(job.id) for job in jobs] == ids
    assert [job.args for job in jobs] == [f'["name {number}"]' for number in range(2500)]
    assert list(jobs.order_by("tag").values_list("id", flat=True)) == [job.id for job in jobs]


def test_map_holds_a_batch_at_a_time_in_memory(acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        tracemalloc.start()
        ids = probe.map_on_commit(("x" * 10_000,) for _ in range(10_000))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert Job.objects.count() == len(set(ids)) == 10_000
    assert peak < 10_000 * 10_000  # of all arguments


@pytest.mark.usefixtures("committed_db")
def test_map_is_all_or_nothing_in_autocommit_mode_too() -> None:
    def calls() -> Iterator[tuple[Any, ...]]:
        yield from [("fine",)] * 1500
        yield (object(),)

    with pytest.raises(TypeError):
        probe.map_on_commit(calls())
    assert committed_jobs() == []


# When


@pytest.mark.parametrize("by", ["countdown", "eta"])
def test_a_job_is_not_sent_or_claimed_before_it_is_due(acme: Tenant, by: str, run_jobs: RunJobs) -> None:
    options = {"countdown": 60} if by == "countdown" else {"eta": timezone.now() + timedelta(seconds=60)}
    bodies(lambda task: None)
    with schema_context(acme.schema_name):
        job_id = atomic.apply_async_on_commit(**options)
    assert run_jobs() == 0
    assert claimed(job_id, atomic) is None
    [ahead] = Job.objects.values_list("due_at", flat=True)
    assert timedelta(seconds=50) < ahead - timezone.now() < timedelta(seconds=61)
    assert run_jobs(ahead=True) == 1


def claimed(job_id: str, task: Task[Any, Any]) -> Lease | None:
    return claim(job_id, task=task.name, token=str(uuid.uuid4()), hard_limit=30)


def test_a_task_that_expires_by_its_own_option_makes_jobs_that_do(acme: Tenant) -> None:
    short_lived.delay_on_commit("name")
    [job] = Job.objects.all()
    assert job.expires_at
    assert round((job.expires_at - job.due_at).total_seconds(), 1) == 5
    assert Terms.of_link(short_lived.si("linked")).expires == timedelta(seconds=5)


# In which order: start tags


def line() -> str:
    """The initials of the tenants in the line to the broker, which this empties."""
    return "".join(job.schema[0] for job in mark(1000))


def queue(tenant: Tenant, number: int) -> None:
    with schema_context(tenant.schema_name):
        probe.map_on_commit([("name",)] * number)


def test_tenants_take_turns_however_much_one_has_queued(acme: Tenant, globex: Tenant) -> None:
    queue(acme, 100)
    queue(globex, 3)
    assert line()[:8] == "agagagaa"


def test_a_newcomer_stands_where_the_line_has_come_to(acme: Tenant, globex: Tenant) -> None:
    queue(acme, 100)
    assert {job.schema for job in mark(50)} == {acme.schema_name}
    queue(globex, 60)
    assert line()[:6] == "agagag"


def test_jobs_that_come_due_later_take_turns_as_well(acme: Tenant, globex: Tenant) -> None:
    for tenant, number in ((acme, 20), (globex, 3)):
        with schema_context(tenant.schema_name):
            probe.map_on_commit([("name",)] * number, countdown=60)
    assert line() == ""
    Job.objects.update(due_at=timezone.now(), next_send_at=timezone.now())
    wake()
    assert sorted(line()[:6]) == list("aaaggg")


def test_platform_jobs_take_turns_with_tenants(acme: Tenant) -> None:
    queue(acme, 20)
    probe.map_on_commit([("name",)] * 2)
    assert line()[:5] == "apapa"


@pytest.mark.parametrize("link", [{"task": "nope"}, {}, {"args": [1]}, 5, "a name"])
def test_what_is_no_signature_is_refused_as_a_link(acme: Tenant, link: Any) -> None:
    with pytest.raises(TypeError, match="single tasks"), schema_context(acme.schema_name), transaction.atomic():
        probe.apply_async_on_commit(("one",), link=[link])
