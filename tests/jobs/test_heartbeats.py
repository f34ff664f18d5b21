"""Relays, workers and beat leave a sign of life, and `/readyz` says in a word each what is missing or wrong."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory
from django_tenants.utils import schema_context
from rest_framework.test import APIClient

from config.health import HealthMiddleware
from devstack.ports import free_port
from devstack.processes import Process
from devstack.valkey import Valkey
from jobs import heartbeats
from jobs.models import Heartbeat, Job
from jobs.relay import maintenance
from tenants.binding import bind_to_public
from tenants.models import Tenant
from tenants.services import suspend_tenant
from tests.jobs.conftest import eventually
from tests.jobs.durables import PARKING, end_other_sessions, sql
from tests.jobs.probes import probe

KINDS = list(Heartbeat.Kind)
BEAT = ["celery", "-A", "config", "beat", "-l", "INFO"]


def readyz() -> dict[str, Any]:
    """Of a process that was not asked before."""
    answer = APIClient().get("/readyz")
    assert answer.status_code == 200
    report: dict[str, Any] = answer.json()
    return report


def warnings() -> set[str]:
    return set(readyz()["warnings"])


def dispatch(tenant: Tenant, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        job_id: str = probe.apply_async_on_commit(("one",), **options)
    return job_id


def all_are_seen(*, seconds_ago: float = 0) -> None:
    for kind in KINDS:
        sql(
            "INSERT INTO public.jobs_relaypulse (name, kind, seen_at)"
            " VALUES (%s, %s, clock_timestamp() - %s * interval '1 second')",
            f"host:{kind}",
            kind.value,
            seconds_ago,
        )


# The processes


def test_a_worker_leaves_one(start_worker: Callable[..., Process]) -> None:
    worker = start_worker("-c", "2", HEARTBEAT_SECONDS="0.1")
    seen = seen_twice(Heartbeat.Kind.WORKER)
    assert seen.endswith(f":{worker.pid}")


@pytest.mark.parametrize("pool", ["solo", "threads", "gevent"])
def test_a_worker_leaves_one_in_each_pool(start_worker: Callable[..., Process], pool: str) -> None:
    start_worker("-P", pool, "-c", "1", HEARTBEAT_SECONDS="0.1")
    seen_twice(Heartbeat.Kind.WORKER)


def test_a_worker_goes_on_with_it_when_its_sessions_were_lost(start_worker: Callable[..., Process]) -> None:
    start_worker("-c", "1", HEARTBEAT_SECONDS="0.1")
    seen_twice(Heartbeat.Kind.WORKER)
    end_other_sessions()
    seen_twice(Heartbeat.Kind.WORKER)


def test_beat_leaves_one(committed_db: None, tmp_path: Path) -> None:
    command = [*BEAT, "--pidfile="]
    with Process("beat", command, log=tmp_path / "beat.log", env={"HEARTBEAT_SECONDS": "0.1"}) as beat:
        assert seen_twice(Heartbeat.Kind.BEAT).endswith(f":{beat.pid}")


def test_a_relay_leaves_one(committed_db: None, tmp_path: Path) -> None:
    relay = ["python", "manage.py", "relay"]
    with Process("relay", relay, log=tmp_path / "relay.log", env={"HEARTBEAT_SECONDS": "0.1"}) as process:
        assert seen_twice(Heartbeat.Kind.RELAY).endswith(f":{process.pid}")


def seen_twice(kind: Heartbeat.Kind) -> str:
    """The name of the process of this kind, when it has left one, and another one later."""
    eventually(Heartbeat.objects.filter(kind=kind).exists, f"a heartbeat of the {kind}")
    first = Heartbeat.objects.get(kind=kind)
    eventually(Heartbeat.objects.filter(kind=kind, seen_at__gt=first.seen_at).exists, "another one")
    return first.name


# The relay's is of its work


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own, which may be sick."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    with Valkey(folder, password="secret") as valkey:
        yield valkey


@pytest.fixture
def relay(committed_db: None, broker: Valkey, tmp_path: Path) -> Iterator[Process]:
    command = ["python", "manage.py", "relay"]
    with Process("relay", command, log=tmp_path / "relay.log", env={"REDIS_URL": broker.url}) as relay:
        eventually(Heartbeat.objects.exists, "a heartbeat")
        yield relay


def fill(server: Any) -> None:
    server.config_set("maxmemory", 1)


def make_read_only(server: Any) -> None:
    server.config_set("min-replicas-to-write", 1)


def make_a_replica(server: Any) -> None:
    server.replicaof("127.0.0.1", str(free_port()))


def recover(server: Any) -> None:
    server.config_set("maxmemory", 0)
    server.config_set("min-replicas-to-write", 0)
    server.replicaof("NO", "ONE")


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("sicken", [fill, make_read_only, make_a_replica])
def test_a_relay_whose_broker_refuses_says_so_until_it_is_over(
    acme: Tenant, relay: Process, broker: Valkey, sicken: Callable[[Any], None]
) -> None:
    assert "broker_refuses" not in warnings()
    with redis.Redis.from_url(broker.url) as server:
        sicken(server)
        dispatch(acme)
        eventually(lambda: "broker_refuses" in warnings(), "it says so")
        assert Heartbeat.objects.get().error
        assert not re.search(r"OOM|READONLY|127\.0\.0\.1", str(readyz()))

        recover(server)
        sql("UPDATE public.jobs_job SET next_send_at = clock_timestamp() WHERE tag IS NULL")
        eventually(lambda: server.llen(f"{settings.REDIS_KEY_PREFIX}jobs") == 1, "it is published")
        eventually(lambda: "broker_refuses" not in warnings(), "it is over")


def test_a_relay_whose_broker_is_away_says_so(relay: Process, broker: Valkey) -> None:
    broker.stop()
    eventually(lambda: "broker_refuses" in warnings(), "it says so")
    broker.start()
    eventually(lambda: "broker_refuses" not in warnings(), "it is over")


# What /readyz says


def test_nothing_is_missing(db: None) -> None:
    all_are_seen()
    report = readyz()
    assert report == {"status": "ready", "database": "ok", "warnings": []}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_has_a_word(db: None, kind: Heartbeat.Kind) -> None:
    all_are_seen()
    Heartbeat.objects.filter(kind=kind).delete()
    assert warnings() == {f"no_{kind}"}


def test_what_was_seen_long_ago_is_missing(db: None) -> None:
    all_are_seen(seconds_ago=60)
    assert warnings() == {"no_relay", "no_worker", "no_beat"}


OVERDUE = {
    "in line": "due_at = now() - interval '1 hour'",
    "sent": "due_at = now() - interval '1 hour', tag = NULL, sends = 1, next_send_at = now() + interval '10 minutes'",
    "not woken": "due_at = now() - interval '1 hour', tag = NULL, next_send_at = now() - interval '1 hour'",
    "its worker vanished": "due_at = now() - interval '1 hour', tag = NULL, token = gen_random_uuid(),"
    " next_send_at = now(), lease_until = now() - interval '1 minute'",
}
IN_TIME = {
    "just dispatched": "due_at = now()",
    "due later": "due_at = now() + interval '1 day', next_send_at = now() + interval '1 day', tag = NULL",
    "running": "due_at = now() - interval '1 hour', tag = NULL, token = gen_random_uuid(),"
    " next_send_at = now() + interval '1 minute', lease_until = now() + interval '1 minute'",
    "parked": f"due_at = now() - interval '1 hour', tag = NULL, next_send_at = {PARKING}",
    "dead": "due_at = now() - interval '1 hour', tag = NULL, state = 'dead', died_at = now()",
}


@pytest.mark.parametrize("where", OVERDUE)
def test_a_job_that_should_have_begun_long_ago_has_a_word(acme: Tenant, where: str) -> None:
    all_are_seen()
    dispatch(acme)
    sql(f"UPDATE public.jobs_job SET {OVERDUE[where]}")
    assert warnings() == {"jobs_overdue"}


@pytest.mark.parametrize("where", IN_TIME)
def test_a_job_that_waits_or_runs_as_it_should_has_none(acme: Tenant, where: str) -> None:
    all_are_seen()
    dispatch(acme)
    sql(f"UPDATE public.jobs_job SET {IN_TIME[where]}")
    assert warnings() == set()


def test_a_suspended_tenants_jobs_are_not_overdue(acme: Tenant) -> None:
    all_are_seen()
    dispatch(acme)
    sql(f"UPDATE public.jobs_job SET {OVERDUE['in line']}")
    suspend_tenant(acme)
    assert warnings() == set()


def test_many_deaths_within_an_hour_have_a_word(acme: Tenant) -> None:
    all_are_seen()
    for _ in range(settings.JOBS_DEAD_PER_HOUR + 1):
        dispatch(acme)
    sql("UPDATE public.jobs_job SET tag = NULL, state = 'dead', died_at = now() - interval '59 minutes'")
    assert warnings() == {"dead_jobs_growing"}
    Job.objects.filter(id=Job.objects.first().id).delete()  # type: ignore[union-attr]  # there are some
    assert warnings() == set()


def test_many_deaths_of_yesterday_have_none(acme: Tenant) -> None:
    all_are_seen()
    for _ in range(settings.JOBS_DEAD_PER_HOUR + 1):
        dispatch(acme)
    sql("UPDATE public.jobs_job SET tag = NULL, state = 'dead', died_at = now() - interval '1 day'")
    assert warnings() == set()


def test_an_answer_is_given_again_for_a_second(db: None) -> None:
    client = APIClient()
    first = client.get("/readyz").json()
    all_are_seen()
    assert client.get("/readyz").json() == first
    eventually(lambda: client.get("/readyz").json() != first, "it looks again")


def test_who_asks_during_a_look_gets_the_answer_before(db: None) -> None:
    looks, goes_on = threading.Event(), threading.Event()
    reports = [{"status": "ready", "look": 1}, {"status": "ready", "look": 2}]

    def look() -> dict[str, Any]:
        if len(reports) == 1:
            looks.set()
            assert goes_on.wait(20)
        return reports.pop(0)

    middleware = HealthMiddleware(lambda request: HttpResponse(status=418), look=look, kept_seconds=0)

    def ask() -> int:
        return int(json.loads(middleware(RequestFactory().get("/readyz")).content)["look"])

    def ask_elsewhere() -> int:
        bind_to_public()
        return ask()

    assert ask() == 1
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(ask_elsewhere)
        assert looks.wait(20)
        assert [ask() for _ in range(3)] == [1, 1, 1]
        goes_on.set()
        assert second.result(20) == 2


def test_of_fifty_who_ask_at_once_one_looks(db: None) -> None:
    come = threading.Semaphore(0)
    looks: list[str] = []

    def look() -> dict[str, Any]:
        looks.append("one")
        if len(looks) == 1:
            assert all(come.acquire(timeout=20) for _ in range(50))
        return {"status": "ready"}

    middleware = HealthMiddleware(lambda request: HttpResponse(status=418), look=look, kept_seconds=600)

    def ask() -> int:
        bind_to_public()
        come.release()
        return middleware(RequestFactory().get("/readyz")).status_code

    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(ask) for _ in range(50)]
        assert {one.result(20) for one in asked} == {200}
    assert looks == ["one"]


# The table


def test_old_heartbeats_are_forgotten(db: None) -> None:
    all_are_seen(seconds_ago=86_500)
    sql("UPDATE public.jobs_relaypulse SET seen_at = now() WHERE kind = 'beat'")
    maintenance.run_maintenance()
    assert [heartbeat.kind for heartbeat in Heartbeat.objects.all()] == ["beat"]


@pytest.mark.parametrize("error", ["a\0b", "\ud800", "x" * 100_000, "{}%s"])
def test_any_error_can_be_left(db: None, error: str) -> None:
    heartbeats.record(connection, Heartbeat.Kind.RELAY, error=error)
    assert Heartbeat.objects.get().error


def test_a_relay_of_the_release_before_still_counts(db: None) -> None:
    sql("INSERT INTO public.jobs_relaypulse (name, seen_at) VALUES ('old:1', clock_timestamp())")
    assert warnings() == {"no_worker", "no_beat"}
