"""Messages in the hands of a worker: Redis keeps those of plain tasks, the outbox those of durable jobs."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app
from django_tenants.utils import schema_context
from kombu.connection import Connection

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
