"""A broker that answers, but refuses: worker and relay wait until it is well again, and no job is lost."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from celery import current_app
from django.conf import settings
from django_tenants.utils import schema_context
from rest_framework.test import APIClient

from devstack.processes import Process
from devstack.valkey import Valkey
from jobs.models import Heartbeat, Job
from tenants.models import Tenant
from tests.jobs.conftest import WORKER, eventually
from tests.jobs.durables import groups, writes

PASSWORD = "sick"
NOBODY_ELSES = "127.0.0.1 1"
# How often the worker is refused before the broker is well again
REFUSALS = 3

Deed = Callable[[redis.Redis], object]
ENDLESS = "while true do end"


def _begin_endless_script(client: redis.Redis) -> None:
    client.config_set("busy-reply-threshold", 50)
    # Nobody waits for its reply.
    client.connection_pool.get_connection().send_command("EVAL", ENDLESS, 0)  # type: ignore[no-untyped-call]  # no types


def _queue() -> str:
    return f"{current_app.conf.broker_transport_options['global_keyprefix']}jobs"


SICKNESSES: dict[str, tuple[Deed, Deed]] = {
    "read-only": (lambda it: it.replicaof(*NOBODY_ELSES.split()), lambda it: it.replicaof("NO", "ONE")),
    "too few replicas": (
        lambda it: it.config_set("min-replicas-to-write", 1),
        lambda it: it.config_set("min-replicas-to-write", 0),
    ),
    "full": (lambda it: it.config_set("maxmemory", 1), lambda it: it.config_set("maxmemory", 0)),
    "full, and evicting": (
        lambda it: it.config_set("maxmemory-policy", "allkeys-lru") and it.config_set("maxmemory", 1),
        lambda it: it.config_set("maxmemory", 0),
    ),
    "busy": (_begin_endless_script, lambda it: it.script_kill()),
    "its queue is no list": (lambda it: it.set(_queue(), "x"), lambda it: it.delete(_queue())),
}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path / "valkey", password=PASSWORD) as valkey:
        yield valkey


@pytest.fixture
def start(valkey: Valkey, committed_db: None, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a worker or a relay on that server."""
    environ = {"REDIS_URL": valkey.url, "JOB_FIRST_RESEND": "1", "JOB_MAX_RESEND": "2", "HEARTBEAT_SECONDS": "0.2"}

    def start(name: str, *command: str, ready: str) -> Process:
        process = Process(
            name, command, log=tmp_path / f"{name}.log", env=environ, ready=lambda: ready in process.output
        )
        return exits.enter_context(process)

    with ExitStack() as exits:
        yield start


def dispatch(tenant: Tenant, *names: str) -> None:
    with schema_context(tenant.schema_name):
        for name in names:
            writes.delay_on_commit(name)


def refusals(*processes: Process) -> int:
    told = ("Connection to broker lost", "consumer: Cannot connect", "The relay pauses", "Error in timer")
    return sum(process.output.count(line) for process in processes for line in told)


@pytest.mark.parametrize(
    ("sickness", "pool"),
    [
        *((sickness, "prefork") for sickness in SICKNESSES),
        *(("read-only", pool) for pool in ("threads", "gevent", "solo")),
    ],
)
def test_worker_and_relay_wait_for_a_broker_that_refuses(
    valkey: Valkey, start: Callable[..., Process], acme: Tenant, sickness: str, pool: str
) -> None:
    relay = start("relay", "python", "manage.py", "relay", ready="")
    worker = start("worker", *WORKER, "-n", "sick", "-P", pool, "-c", "2", ready=" ready.")
    dispatch(acme, "before")
    eventually(lambda: groups(acme.schema_name) == ["before"], "a job before")
    fall_sick, recover = SICKNESSES[sickness]
    client = redis.Redis.from_url(valkey.url)

    fall_sick(client)
    dispatch(acme, "meanwhile")
    evicting = "evicting" in sickness
    eventually(lambda: evicting or refusals(worker, relay) >= REFUSALS, "they are refused, again and again")
    late = start("late worker", *WORKER, "-n", "late", "-c", "1", ready="celery@" if evicting else "Trying ")
    recover(client)
    dispatch(acme, "after")

    eventually(lambda: groups(acme.schema_name) == ["after", "before", "meanwhile"], "all ran")
    assert not Job.objects.exists()
    assert (worker.running, late.running, relay.running) == (True, True, True)
    assert "Unrecoverable" not in worker.output + late.output


# Keys of a wrong type

WRONG: dict[str, Callable[[redis.Redis, str], object]] = {
    "celery": lambda it, key: it.set(key, "garbage"),
    "jobs": lambda it, key: it.xadd(key, {"garbage": "garbage"}),
    "_kombu.binding.jobs": lambda it, key: it.hset(key, "garbage", "garbage"),
}


def pauses(process: Process) -> list[str]:
    return re.findall(r"The broker refuses; the next try is in (\S+) s\.", process.output)


@pytest.mark.parametrize("name", WRONG)
def test_they_tell_of_a_key_of_a_wrong_type_and_go_on_when_it_is_deleted(
    valkey: Valkey, start: Callable[..., Process], acme: Tenant, name: str
) -> None:
    relay = start("relay", "python", "manage.py", "relay", ready="")
    worker = start("worker", *WORKER, "-n", "sick", "-c", "2", ready=" ready.")
    dispatch(acme, "before")
    eventually(lambda: groups(acme.schema_name) == ["before"], "a job before")
    client, key = redis.Redis.from_url(valkey.url), f"{settings.REDIS_KEY_PREFIX}{name}"
    eventually(lambda: warnings() == {"no_beat"}, "all is well")

    client.delete(key)
    WRONG[name](client, key)

    eventually(lambda: "broker_refuses" in warnings(), "/readyz says so")
    told = f"{key!r} is a "
    assert told in Heartbeat.objects.get(kind=Heartbeat.Kind.RELAY).error
    late = start("late worker", *WORKER, "-n", "late", "-c", "1", ready=told)
    eventually(lambda: len(pauses(late)) >= 4, "it tries again, later each time")
    assert pauses(late)[:4] == ["1", "2", "4", "5"]
    late.signal(signal.SIGTERM)
    eventually(lambda: not late.running, "it need not try to the end")
    dispatch(acme, "meanwhile")

    client.delete(key)
    dispatch(acme, "after")
    eventually(lambda: groups(acme.schema_name) == ["after", "before", "meanwhile"], "all ran")
    eventually(lambda: "broker_refuses" not in warnings(), "it is over")
    assert not Job.objects.exists()
    assert relay.output.count(told) == 1
    assert (worker.running, relay.running) == (True, True)


def warnings() -> set[str]:
    """Of a process that was not asked before."""
    return set(APIClient().get("/readyz").json()["warnings"])
