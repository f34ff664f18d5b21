"""Tenants with work take turns (P6): the outbox is the queue, the broker a short buffer, filled in fair order."""

from collections.abc import Callable, Iterable, Iterator
from queue import Empty
from typing import Any

import pytest
from celery import current_app
from celery.app import app_or_default
from django_tenants.utils import schema_context
from pytest_django import Settings

from jobs.relay import line, process
from jobs.relay.process import Relay
from jobs.relay.publisher import MIN_DEPTH, Publisher
from tenants.models import Tenant
from tests.jobs.conftest import eventually
from tests.jobs.durables import new_relay, queue_length, sql
from tests.jobs.probes import broker, probe, ran, sleeps


@pytest.fixture
def noisy(acme: Tenant) -> str:
    for number in (20, 1, 1, 1, 1, 1, 25):
        dispatch(acme, number)
    return str(acme.schema_name)


@pytest.fixture
def quiet(globex: Tenant) -> Tenant:
    return globex


def dispatch(tenant: Tenant, number: int, **options: float) -> None:
    with schema_context(tenant.schema_name):
        probe.map_on_commit([("name",)] * number, **options)


def sent(number: int) -> list[str]:
    """The schemas of the next jobs."""
    return [job.schema for job in line.mark(number)]


def turns(noisy: str, quiet: Tenant, number: int) -> list[str]:
    return [noisy, quiet.schema_name] * number


def test_tenants_take_turns_however_much_one_of_them_has(noisy: str, quiet: Tenant) -> None:
    dispatch(quiet, 5)
    assert sent(12) == [*turns(noisy, quiet, 5), noisy, noisy]


def test_who_comes_late_is_not_behind_what_waits(noisy: str, quiet: Tenant) -> None:
    assert sent(20) == [noisy] * 20
    dispatch(quiet, 3)
    assert sent(6) == turns(noisy, quiet, 3)


def test_who_had_nothing_for_long_has_saved_nothing_up(noisy: str, quiet: Tenant) -> None:
    dispatch(quiet, 1)
    assert sent(30) == [*turns(noisy, quiet, 1), *[noisy] * 28]
    dispatch(quiet, 3)
    assert sent(6) == turns(noisy, quiet, 3)


def test_what_is_woken_takes_its_turns_too(noisy: str, quiet: Tenant) -> None:
    dispatch(quiet, 3, countdown=60)
    assert sent(10) == [noisy] * 10
    sql("UPDATE public.jobs_job SET due_at = now(), next_send_at = now() WHERE tenant_id = %s", quiet.id)
    line.wake()
    assert sent(6) == turns(noisy, quiet, 3)


def test_who_is_alone_gets_all_there_is(noisy: str) -> None:
    assert sent(40) == [noisy] * 40


# The buffer


@pytest.fixture
def looks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Lets a relay look at the queue, after each of these happened meanwhile; the pauses that it then made."""
    current_app.control.purge()
    settings.RELAY_BUSY_POLL, settings.RELAY_IDLE_POLL = 0.001, 0.002
    monkeypatch.setattr(process, "LINGER", 0)
    pauses = Pauses()
    watched = new_relay(stops=pauses)

    def looks(*meanwhile: Callable[[], object]) -> list[float]:
        pauses.begin(meanwhile)
        watched.run()
        return pauses.made[1:]

    return looks


class Pauses:
    """What a relay waits for between its looks: each pause is the next event, and after the last one it stops."""

    def begin(self, events: Iterable[Callable[[], object]]) -> None:
        self.made: list[float] = []
        self._events = iter(events)

    def put(self, item: None) -> None:
        raise NotImplementedError("Nobody stops this relay.")

    def get(self, *, timeout: float) -> None:
        self.made.append(timeout)
        event = next(self._events, None)
        if event is not None:
            event()
            raise Empty


def taken(number: int) -> Callable[[], object]:
    """By a worker."""
    key = f"{current_app.conf.broker_transport_options['global_keyprefix']}jobs"
    return lambda: broker().rpop(key, number)


def nothing() -> None:
    pass


@pytest.mark.usefixtures("committed_db", "noisy")
def test_no_share_of_the_buffer_is_lost_with_a_worker_that_dies(looks: Callable[..., list[float]]) -> None:
    for _ in range(3):
        looks(nothing)
        assert queue_length() >= MIN_DEPTH
        taken(50)()  # and never ran
    current_app.control.purge()


@pytest.mark.usefixtures("committed_db", "noisy")
def test_the_relay_is_busy_for_as_long_as_workers_drain_the_queue(looks: Callable[..., list[float]]) -> None:
    busy, idle = 0.001, 0.002
    # Sent; drained, though not enough to send more; nothing, twice.
    assert looks(nothing, taken(2), nothing, nothing) == [busy, busy, idle, idle]
    current_app.control.purge()


@pytest.fixture
def clock() -> "Clock":
    return Clock()


class Clock:
    """A publisher's, which stands still until a test lets it go on."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def relay_at(clock: Clock) -> Iterator[Relay]:
    current_app.control.purge()
    app: Any = app_or_default()
    yield Relay(Publisher(app, app.send_job, clock=clock))
    current_app.control.purge()


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize(
    ("each_time", "seconds", "most"),
    [(0, 1.0, 2), (1, 1.0, 2), (1, 0.12, 5), (2, 0.12, 8), (2, 60.0, 4), (4, 0.01, 8), (8, 0.01, 16)],
    ids=["none", "slow", "one in an eighth of a second", "two in an eighth", "two at once, seldom", "fast", "faster"],
)
def test_the_broker_holds_what_workers_take_in_half_a_second(
    relay_at: Relay, clock: Clock, acme: Tenant, each_time: int, seconds: float, most: int
) -> None:
    dispatch(acme, 200)
    seen = []
    for _ in range(16):
        relay_at.tick()
        seen.append(queue_length())
        taken(each_time)()
        clock.seconds += seconds
    assert max(seen[8:]) == most


@pytest.mark.usefixtures("committed_db")
def test_it_holds_few_again_once_workers_are_slow_again(relay_at: Relay, clock: Clock, acme: Tenant) -> None:
    dispatch(acme, 200)
    for _ in range(8):
        relay_at.tick()
        taken(8)()
        clock.seconds += 0.01
    for _ in range(40):
        clock.seconds += 1
        relay_at.tick()
        taken(1)()
    assert queue_length() <= 2


@pytest.mark.usefixtures("one_child", "relay")
def test_a_neighbours_slow_jobs_are_not_all_before_mine(acme: Tenant, globex: Tenant) -> None:
    with schema_context(acme.schema_name):
        sleeps.map_on_commit([(f"acme's {number}", 0.2) for number in range(30)])
    eventually(lambda: len(ran()) == 12, "twelve of them began")
    with schema_context(globex.schema_name):
        probe.delay_on_commit("mine")
    begun = len(ran())
    eventually(lambda: len(ran()) == 31, "all ran")

    # The one in the worker's hands, three at the broker (half a second's worth), one that the relay had picked before
    # it saw mine, and one that began meanwhile. It was eight at the broker, whatever they took.
    assert names_of(ran()).index("mine") - begun <= 6


def names_of(bodies: list[dict[str, Any]]) -> list[str]:
    return [body["name"] for body in bodies]
