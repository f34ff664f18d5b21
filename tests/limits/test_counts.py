"""Counts in Redis, and in memory: the same, and bounded."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.conf import settings
from rest_framework.test import APIClient

from limits import counts
from limits.counts import Circuit
from limits.stores import Hit, OwnCounts, SharedCounts, Store
from tenants.ids import new_id
from tests.limits.conftest import Clock
from tests.wire import commands


@pytest.fixture(params=[lambda: SharedCounts(settings.CACHE_URL), OwnCounts], ids=["in Redis", "in memory"])
def store(request: pytest.FixtureRequest) -> Store:
    made: Store = request.param()
    return made


@pytest.fixture
def name() -> str:
    """Of a count that is not there."""
    return f"test:{new_id()}"


def test_hits_add_up(store: Store, name: str) -> None:
    added = [store.add([Hit(name, 60)])[0].value, store.add([Hit(name, 60, by=3), Hit(name, 60, by=-2)])[1].value]
    assert added == [1, 2]


def test_several_are_counted_at_once_and_apart(store: Store, name: str) -> None:
    first, second = store.add([Hit(name, 60), Hit(f"{name}:2", 3600, by=5)])
    assert (first.value, second.value) == (1, 5)
    assert 59 <= first.seconds <= 60
    assert 3599 <= second.seconds <= 3600


@pytest.mark.parametrize("now", [1000.1, 26_000.7, 31_337.3, 1_000_000.1])
@pytest.mark.parametrize("seconds", [60, 3600, 86_400])
def test_a_new_count_ends_after_its_seconds_whatever_the_clock_says(now: float, seconds: int) -> None:
    clock = Clock()
    clock.now = now
    store = OwnCounts(clock)
    assert store.add([Hit("name", seconds)])[0].seconds == seconds
    assert store.seconds_left("name") == seconds


def test_later_hits_do_not_put_off_the_end(store: Store, name: str) -> None:
    store.add([Hit(name, 60)])
    assert store.add([Hit(name, 3600)])[0].seconds <= 60


def test_a_count_is_started_found_and_ended(store: Store, name: str) -> None:
    assert not store.has(name)
    store.start(name, 60)
    assert store.has(name)
    assert store.add([Hit(name, 3600)])[0].value == 2
    store.start(name, 60)
    assert store.add([Hit(name, 3600)])[0] == (2, 60)
    store.delete([name, f"{name}:2"])
    assert not store.has(name)


def test_in_memory_a_count_ends() -> None:
    clock = Clock()
    store = OwnCounts(clock)
    assert store.add([Hit("one", 60)])[0] == (1, 60)
    clock.now += 59.5
    assert store.add([Hit("one", 60)])[0] == (2, 1)
    clock.now += 0.5
    assert not store.has("one")
    assert store.add([Hit("one", 60)])[0] == (1, 60)


def test_memory_has_room_for_so_many_and_forgets_those_that_began_first() -> None:
    store = OwnCounts(room=3)
    for name in ("a", "b", "c", "a", "d", "e"):
        store.add([Hit(name, 60)])
    assert [name for name in "abcde" if store.has(name)] == ["c", "d", "e"]


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(settings.CACHE_URL)
    yield client
    client.close()


def test_nothing_stays_in_redis_for_ever(client: redis.Redis, name: str) -> None:
    store = SharedCounts(settings.CACHE_URL)
    store.add([Hit(f"{name}:1", 60), Hit(f"{name}:2", 60, by=-1)])
    store.start(f"{name}:3", 60)
    store.add([Hit(f"{name}:3", 3600)])
    keys = list(client.scan_iter(f"{settings.REDIS_KEY_PREFIX}limits:{name}*"))
    assert len(keys) == 3
    assert all(0 < client.ttl(key) <= 60 for key in keys)


def test_a_count_that_somebody_left_without_an_end_gets_one(client: redis.Redis, name: str) -> None:
    key = f"{settings.REDIS_KEY_PREFIX}limits:{name}"
    client.set(key, 7)
    assert SharedCounts(settings.CACHE_URL).add([Hit(name, 60)]) == [(8, 60)]
    assert 0 < client.ttl(key) <= 60


def test_counting_is_one_round_trip(name: str) -> None:
    store = SharedCounts(settings.CACHE_URL)
    store.add([Hit(name, 60)])
    with commands(name) as asked:
        store.add([Hit(name, 60), Hit(f"{name}:2", 60)])
    assert [command.split()[0] for command in asked].count("EVALSHA") == 1
    assert {command.split()[0] for command in asked} == {"EVALSHA", "INCRBY", "TTL", "EXPIRE"}


PLANTS: dict[str, Callable[[redis.Redis, str], Any]] = {
    "text": lambda server, key: server.set(key, "x"),
    "a pickle": lambda server, key: server.set(key, pickle.dumps(object())),
    "a fraction": lambda server, key: server.set(key, "1.5"),
    "a number that is too long": lambda server, key: server.set(key, "9" * 5000),
    "the largest number": lambda server, key: server.set(key, 2**63 - 1),
    "a list": lambda server, key: server.rpush(key, "x"),
    "a hash": lambda server, key: server.hset(key, "x", "y"),
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.django_db
def test_a_count_that_somebody_has_written_over_counts_all_the_same(
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    rates: Callable[..., None],
    somewhere: Callable[[], str],
    plant: str,
) -> None:
    monkeypatch.setattr(counts, "circuit", Circuit())
    rates(address="2/day")
    address = somewhere()
    key = f"{settings.REDIS_KEY_PREFIX}limits:address:86400:{address}"
    PLANTS[plant](client, key)

    stranger = APIClient(headers={"host": "localhost"}, REMOTE_ADDR=address)
    assert [stranger.get("/api/v1/nothing/").status_code for _ in range(3)] == [404, 404, 429]
    assert client.get(key) == b"2"
    assert client.ttl(key) > 0
    assert counts.circuit.closed
