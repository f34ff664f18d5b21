"""Pickles in every key that Redis has after a run: nothing unpickles them, and what can go on goes on."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import current_app, group
from django.conf import settings
from django.core.cache import cache, caches
from django.db import connection
from django.utils.crypto import get_random_string
from django_tenants.utils import schema_context, tenant_context
from knox.models import AuthToken

from accounts.models import User
from devstack.ports import free_port
from devstack.processes import Process, wait_until
from devstack.procfile import commands
from jobs.celery_hooks.backends import TenantCacheBackend
from tenants.models import Tenant
from tests.jobs.conftest import eventually, where_ran
from tests.jobs.probes import GO, RAN, probe
from tests.people import add_user
from tests.poison import bomb, server


def plant(pickled: bytes) -> dict[str, str]:
    """In each value of each key of this run. Returns the keys by name, with their types."""
    planted = {}
    with server() as client:
        for key in client.scan_iter(f"{settings.REDIS_KEY_PREFIX}*"):
            if key.decode() in (RAN, GO):
                continue  # the tests' own
            planted[key.decode()] = kind = client.type(key).decode()
            match kind:
                case "string":
                    client.set(key, pickled, keepttl=True)
                case "list":
                    client.lpush(key, pickled)
                    client.rpush(key, pickled)
                case "set":
                    client.sadd(key, pickled)
                case "zset":
                    client.zadd(key, {pickled: 0})
                case "hash":
                    client.hset(key, mapping=dict.fromkeys([*client.hkeys(key), b"new"], pickled))
    return planted


@pytest.fixture
def pickled(tmp_path: Path) -> Iterator[bytes]:
    yield bomb(tmp_path / "executed")
    assert not (tmp_path / "executed").exists()


def test_the_bomb_works(tmp_path: Path) -> None:
    pickle.loads(bomb(tmp_path / "executed"))
    assert (tmp_path / "executed").exists()


@pytest.fixture
def web(committed_db: None, tmp_path: Path) -> Iterator[httpx.Client]:
    """Production's, which throttles."""
    port, log = free_port(), tmp_path / "web.log"
    parts = connection.settings_dict
    url = f"postgres://{parts['USER']}:{parts['PASSWORD']}@127.0.0.1:{parts['PORT'] or 5432}/{parts['NAME']}"
    line = f"exec {commands()['web']} --bind=127.0.0.1:{port} --workers=1"
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": "acme.localhost"}, trust_env=False)

    def is_ready() -> bool:
        try:
            return client.get("/livez").status_code == 200
        except httpx.HTTPError:
            return False

    with client, Process("web", ["sh", "-c", line], log=log, env={"DATABASE_URL": url, "DEBUG": "0"}):
        wait_until(is_ready, seconds=60, what="web")
        yield client


def ask(web: httpx.Client) -> None:
    """Requests that are counted: as Ada, and as somebody who fails to log in."""
    with tenant_context(Tenant.objects.get(slug="acme")):
        _, token = AuthToken.objects.create(user=User.objects.get())
    assert web.get("/api/v1/users/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    wrong = {"email": "ada@acme.example", "password": "wrong"}
    assert web.post("/api/v1/tokens/", json=wrong).status_code == 401


@pytest.fixture
def backend(committed_db: None, monkeypatch: pytest.MonkeyPatch) -> TenantCacheBackend:
    """This process's, too."""
    backend = TenantCacheBackend(app=current_app)
    monkeypatch.setattr(current_app._local, "backend", backend, raising=False)
    return backend


def test_nothing_that_redis_holds_is_run(
    web: httpx.Client,
    backend: TenantCacheBackend,
    start_worker: Callable[..., Process],
    relay: Process,
    acme: Tenant,
    pickled: bytes,
) -> None:
    add_user(acme, "ada", "owner")
    worker = start_worker("-c", "1", CELERY_RESULT_BACKEND="django-cache")
    results = run(web)
    waits = probe.apply_async(("late",), countdown=3600)
    eventually(lambda: server().exists(f"{settings.REDIS_KEY_PREFIX}unacked"), "a worker holds it")

    planted = plant(pickled)
    assert {"string", "hash", "zset", "set"} <= set(planted.values())
    with schema_context(acme.schema_name):
        states = {backend.get_task_meta(result.id, cache=False)["status"] for result in [*results, waits]}
        assert (states, cache.get("mine"), caches["shared"].get("ours")) == ({"PENDING"}, None, None)
    ask(web)
    with server() as client:
        for queue in ("celery", "jobs"):
            client.lpush(f"{settings.REDIS_KEY_PREFIX}{queue}", pickled)
        # What routes messages can't be read now, so nobody publishes.
        for key in [key for key, kind in planted.items() if kind == "set"]:
            client.srem(key, pickled)
    worker.wait_for("Dropped what is no message")

    run(web)
    assert worker.running
    assert relay.running


def run(web: httpx.Client) -> list[Any]:
    """Requests, plain tasks with results, a durable job, and what users cache."""
    ask(web)
    name = get_random_string(8)
    with tenant_context(Tenant.objects.get(slug="acme")):
        cache.set("mine", {"a": 1})
        one, many = probe.delay(name), group(probe.s(f"{name}1"), probe.s(f"{name}2")).delay()
        many.save()
        probe.delay_on_commit(f"{name}3")
        for each in ("", "1", "2", "3"):
            eventually(lambda each=each: where_ran(name + each), f"{name}{each} ran")  # type: ignore[misc]
        eventually(lambda: one.state == "SUCCESS", "its result is there")
    caches["shared"].set("ours", [1])
    return [one, *many.results]
