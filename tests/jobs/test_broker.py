"""Messages in the hands of a worker: Redis keeps those of plain tasks, the outbox those of durable jobs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app
from django_tenants.utils import schema_context
from kombu.connection import Connection

from jobs.celery_hooks.broker import explain_wrong_keys
from tenants.models import Tenant
from tests.jobs.durables import new_relay, queue_length
from tests.jobs.messages import NOTES, envelope, hold
from tests.jobs.probes import broker, probe

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A worker's, with which a test receives by itself."""
    current_app.control.purge()
    with current_app.connection_for_read() as connection:
        yield connection
    current_app.control.purge()


@pytest.fixture
def job(acme: Tenant, connection: Connection) -> str:
    with schema_context(acme.schema_name):
        job_id: str = probe.delay_on_commit("one")
    new_relay().drain()
    return job_id


def held() -> list[int]:
    return [broker().hlen(_key("unacked")), broker().zcard(_key("unacked_index"))]


def _key(name: str) -> str:
    return f"{current_app.conf.broker_transport_options['global_keyprefix']}{name}"


def receive(connection: Connection, queue: str) -> Any:
    return current_app.amqp.queues[queue](connection.default_channel).get()


def test_redis_keeps_no_second_copy_of_a_durable_jobs_message(job: str, connection: Connection) -> None:
    message = receive(connection, "jobs")
    assert message.headers["id"] == job
    assert held() == [0, 0]
    message.ack()
    connection.default_channel.close()
    assert (held(), queue_length()) == ([0, 0], 0)


def test_it_goes_back_to_the_queue_when_a_worker_ends_that_did_not_begin_it(job: str, connection: Connection) -> None:
    receive(connection, "jobs")
    assert queue_length() == 0
    connection.default_channel.close()
    assert (held(), queue_length()) == ([0, 0], 1)
    again = receive(connection.clone(), "jobs")
    again.ack()
    assert again.headers["id"] == job


@pytest.mark.parametrize("requeue", [True, False])
def test_it_goes_back_when_it_is_rejected_for_others(job: str, connection: Connection, requeue: bool) -> None:
    receive(connection, "jobs").reject(requeue=requeue)
    assert queue_length() == int(requeue)
    connection.default_channel.close()
    assert (held(), queue_length()) == ([0, 0], int(requeue))


def test_redis_keeps_a_plain_tasks_message_until_it_is_acknowledged(acme: Tenant, connection: Connection) -> None:
    with schema_context(acme.schema_name):
        result = probe.delay("one")
    message = receive(connection, "celery")
    assert message.headers["id"] == result.id
    assert held() == [1, 1]
    message.ack()
    assert held() == [0, 0]


@pytest.mark.parametrize("kind", NOTES)
def test_a_note_that_makes_no_sense_is_dropped_and_the_others_are_restored(
    connection: Connection, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    message = envelope("celery")
    hold("senseless", NOTES[kind], since=1)  # the later one is restored first
    hold("sensible", [message, "", "celery"], since=0)

    connection.default_channel.qos.restore_visible()

    assert held() == [0, 0]
    again = receive(connection, "celery")
    again.ack()
    assert again.headers["id"] == message["headers"]["id"]
    assert queue_length("celery") == 0
    dropped = [line for line in caplog.messages if line.startswith(("Dropped", "Could not restore"))]
    assert len(dropped) == (kind != "nothing")


# Notes that Redis does not take


@pytest.fixture(params=["unacked", "unacked_index"])
def spoil(request: pytest.FixtureRequest, connection: Connection) -> Iterator[Callable[[], None]]:
    """Lets a key of the notes be of another type."""
    key = _key(request.param)

    def spoil() -> None:
        broker().delete(key)
        broker().set(key, "garbage")

    yield spoil
    broker().delete(_key("unacked"), _key("unacked_index"))


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_plain_task_is_received_and_acknowledged_without_a_note(
    acme: Tenant, connection: Connection, spoil: Callable[[], None], when: str, caplog: pytest.LogCaptureFixture
) -> None:
    with schema_context(acme.schema_name):
        results = [probe.delay("one"), probe.delay("two")]
    if when == "before":
        spoil()
    messages = [receive(connection, "celery") for _ in results]
    spoil()
    for message in messages:
        message.ack()

    assert [message.headers["id"] for message in messages] == [result.id for result in results]
    assert len([line for line in caplog.messages if "refuses notes of plain tasks" in line]) == 1
    connection.default_channel.close()
    assert queue_length("celery") == 0


@pytest.mark.parametrize("give_back", ["reject", "close"])
def test_without_a_note_a_plain_task_goes_back_to_the_queue_all_the_same(
    acme: Tenant, connection: Connection, spoil: Callable[[], None], give_back: str
) -> None:
    with schema_context(acme.schema_name):
        result = probe.delay("one")
    spoil()
    message = receive(connection, "celery")
    assert queue_length("celery") == 0
    if give_back == "reject":
        message.reject(requeue=True)
    connection.default_channel.close()
    again = receive(connection.clone(), "celery")
    again.ack()
    assert again.headers["id"] == result.id


def test_a_worker_that_can_restore_nothing_begins_all_the_same(
    connection: Connection, spoil: Callable[[], None]
) -> None:
    hold("an old one", [envelope("celery"), "", "celery"], since=0)
    spoil()
    connection.default_channel.qos.restore_visible()


# Keys of a wrong type

GARBAGE: dict[str, Callable[[str], Any]] = {
    "string": lambda key: broker().set(key, "garbage"),
    "list": lambda key: broker().rpush(key, "garbage"),
    "set": lambda key: broker().sadd(key, "garbage"),
    "hash": lambda key: broker().hset(key, "garbage", "garbage"),
    "stream": lambda key: broker().xadd(key, {"garbage": "garbage"}),
}
KEYS = {
    "celery": "list",
    "jobs": "list",
    "celery\x06\x163": "list",
    "unacked": "hash",
    "unacked_index": "zset",
    "unacked_mutex": "string",
    "_kombu.binding.celery": "set",
    "_kombu.binding_permanent.jobs": "set",
}


@pytest.fixture
def elsewhere() -> Iterator[Connection]:
    """On keys that nobody else uses: what is spoilt there disturbs no other test."""
    options = {"global_keyprefix": _key("elsewhere:")}
    with current_app.connection_for_read(transport_options=options) as connection:
        yield connection
    for key in broker().scan_iter(f"{_key('elsewhere:')}*"):
        broker().delete(key)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, right in KEYS.items() for kind in GARBAGE if kind != right]
)
def test_a_key_of_a_wrong_type_is_named(elsewhere: Connection, name: str, kind: str) -> None:
    key, queues = _key(f"elsewhere:{name}"), current_app.amqp.queues.values()
    assert explain_wrong_keys(elsewhere.default_channel, queues) == ""
    GARBAGE[kind](key)
    told = explain_wrong_keys(elsewhere.default_channel, queues)
    assert told.startswith(f"Keys of the broker are of a wrong type: {key!r} is a {kind}, not a {KEYS[name]}. Delete")


def test_keys_in_use_are_right(acme: Tenant, connection: Connection) -> None:
    with schema_context(acme.schema_name):
        probe.delay("one")
        probe.apply_async(("two",), priority=5)
    message = receive(connection, "celery")
    assert explain_wrong_keys(connection.default_channel, current_app.amqp.queues.values()) == ""
    message.ack()
