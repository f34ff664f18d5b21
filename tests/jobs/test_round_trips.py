"""What each thing costs on the wire, statement by statement, with the reason for each. One more has to be wanted."""

import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
from celery import current_app
from django_tenants.utils import schema_context
from pytest_django import Settings
from rest_framework.throttling import SimpleRateThrottle

from devstack.processes import Process
from jobs.celery_hooks.tracing import trace
from jobs.message import HEADER
from jobs.relay.line import Due
from jobs.relay.process import Relay
from jobs.testing import receive
from tenants.models import Tenant
from tenants.postgresql.statements import CLEANING
from tests.jobs.conftest import eventually, results_of
from tests.jobs.durables import message_of, new_relay
from tests.jobs.probes import probe
from tests.people import add_user, client_of
from tests.wire import commands, queries

pytestmark = pytest.mark.usefixtures("committed_db")
ORDER = {
    "currency": "EUR",
    "payment_token": "tok_ok",
    "lines": [{"description": "Widget", "quantity": 1, "unit_amount": 1234}],
}
Expected = Sequence[tuple[str, str]]  # how it begins, and why it is there
# What each owner of a session begins with, in its first message
CLEAN = b"; ".join(CLEANING).decode()


def check(sent: list[str], expected: Expected) -> None:
    beginnings = [beginning for beginning, _ in expected]
    assert [query[: len(beginning)] for query, beginning in zip(sent, beginnings, strict=False)] == beginnings
    assert len(sent) == len(expected), sent


@pytest.mark.parametrize("headers", [{}, {"host": "localhost", "tenant": "acme"}])
def test_an_order(acme: Tenant, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]) -> None:
    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, "user", "1000/min")
    api = client_of(acme, add_user(acme, "ada"))
    api.get("/api/v1/orders/")
    path = path_of(acme)
    with queries() as sent, commands("limits") as counted:
        assert api.post("/api/v1/orders/", ORDER, headers=headers).status_code == 201
    check(
        sent,
        [
            (
                f"{CLEAN}; SELECT tenant.schema_name",
                "finds the tenant of the host or the header, and sees that it is active",
            ),
            (f'{path}; SELECT "knox_authtoken"', "who asks: the token, and its user"),
            ("BEGIN; SELECT public.jobs_dispatch(", "the job that bills the order"),
            (f'{path}; INSERT INTO "billing_order"', "the order, which names its job"),
            (f'{path}; INSERT INTO "billing_orderline"', "its lines"),
            (f"{path}; COMMIT", "all of them, or none; a deferred trigger runs at home"),
            (f'{path}; SELECT "billing_orderline"', "the lines, as they were stored, for the answer"),
        ],
    )
    assert names(counted) == ["EVALSHA", "INCRBY", "TTL"]  # the user's requests, by one script


def test_a_durable_job(acme: Tenant) -> None:
    job = message_of(dispatch(acme))
    with queries() as sent:
        receive(job)
    check(
        sent,
        [
            (f"{CLEAN}; SELECT * FROM public.jobs_claim(", "the claim, which commits by itself"),
            (
                "BEGIN; SELECT public.jobs_pass_gate(",
                "how long it may idle; the gate: its tenant is not being deleted, is active, and the lease is ours",
            ),
            (f"{path_of(acme)}; SELECT current_schema()", "the body"),
            ("SELECT public.jobs_complete(", "the job's end, under the fence, its result, path and COMMIT"),
        ],
    )


def test_a_plain_task(acme: Tenant) -> None:
    task = current_app.tasks[probe.name]
    task_id = str(uuid.uuid4())
    with queries() as sent:
        trace(task, task_id, {HEADER: {"schema": acme.schema_name}}, ("one",))
    check(
        sent,
        [
            ("INSERT INTO", "its result says STARTED"),
            (f"{CLEAN}; SELECT status", "sees that the tenant is active"),
            (f"{path_of(acme)}; SELECT current_schema()", "the body"),
            (f"{CLEAN}; INSERT INTO", "its result, which nothing that the body left can prevent"),
        ],
    )


@pytest.fixture
def relay(settings: Settings) -> Iterator[Callable[[float], Relay]]:
    """One that has just left its heartbeat, and wakes rows as often as it is told."""

    def start(idle_poll: float) -> Relay:
        settings.RELAY_IDLE_POLL = idle_poll
        relay = new_relay(heartbeat_interval=60)
        relay.tick()
        return relay

    current_app.control.purge()
    yield start
    current_app.control.purge()


LENGTH = ["MULTI", "LLEN", "LLEN", "LLEN", "LLEN", "EXEC"]  # of a queue: one list for each priority


def test_an_idle_tick_of_the_relay(relay: Callable[[float], Relay]) -> None:
    idle = relay(0)
    with queries() as sent, commands("") as asked:
        idle.tick()
    check(
        sent,
        [
            ("WITH due AS", "lets rows whose time has come join the line"),
            ("WITH found AS", "takes those from its head that the queue has room for"),
        ],
    )
    assert names(asked) == LENGTH  # is there room?


def test_a_busy_tick_of_the_relay(relay: Callable[[float], Relay], acme: Tenant) -> None:
    busy = relay(60)
    for _ in range(2):
        dispatch(acme)
    with queries() as sent, commands("") as asked:
        busy.tick()
    check(
        sent,
        [
            ("WITH found AS", "takes what there is room for, and marks it as sent; nothing was to be woken so soon"),
        ],
    )
    assert names(asked) == [*LENGTH, *2 * ["LPUSH"]]  # one batch


def names(asked: list[str]) -> list[str]:
    """Without what a new connection says of itself: the test's own."""
    return [command.split()[0] for command in asked if command.split()[0] not in ("HELLO", "CLIENT")]


def test_redis_sees_no_more_of_a_durable_job_than_its_message(one_child: Process, acme: Tenant) -> None:
    job = message_of(dispatch(acme))
    with commands(str(job.id)) as asked:
        publish(job)
        eventually(lambda: results_of(str(job.id)), "a result")
    assert names(asked) == ["LPUSH"]  # and the worker's BRPOP, which names the queue alone


def test_redis_keeps_a_plain_task_while_a_worker_has_it(one_child: Process, acme: Tenant) -> None:
    with schema_context(acme.schema_name), commands("") as asked:
        result = probe.delay("one")
        eventually(lambda: "SUCCESS" in results_of(result.id).values(), "a result")
    kept = [name for name in names(asked) if name in ("LPUSH", "ZADD", "HSET", "ZREM", "HDEL")]
    assert kept == ["LPUSH", "ZADD", "HSET", "ZREM", "HDEL"]


def path_of(tenant: Tenant) -> str:
    return f'SET LOCAL search_path = "{tenant.schema_name}", "pg_catalog", "pg_temp"'


def dispatch(tenant: Tenant) -> str:
    with schema_context(tenant.schema_name):
        job_id: str = probe.delay_on_commit("one")
    return job_id


def publish(job: Due) -> None:
    new_relay().publisher.publish([job])
