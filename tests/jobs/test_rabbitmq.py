"""RabbitMQ as the broker: whatever queues are there, or none."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from amqp.exceptions import PreconditionFailed
from celery import current_app
from celery.app import app_or_default
from django_tenants.utils import schema_context
from kombu.connection import Connection

from devstack import CHECKOUT
from devstack.ports import free_port
from devstack.processes import Process
from jobs.relay.process import Relay
from jobs.relay.publisher import MIN_DEPTH, Publisher
from tenants.models import Tenant
from tests.jobs.conftest import eventually, where_ran
from tests.jobs.durables import mark, sql
from tests.rabbitmq import PASSWORD, USER, RabbitMQ
from tests.tls import HOST, OTHER_NAME, make_certificate

pytestmark = pytest.mark.needs("rabbitmq-server")

QUEUES = ("jobs", "celery")
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def rabbitmq(server: RabbitMQ) -> Iterator[RabbitMQ]:
    """A server without any queue of tasks."""
    yield server
    server.delete(*QUEUES)


@pytest.fixture
def start(rabbitmq: RabbitMQ, start_worker: Callable[..., Process], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a relay and a worker, the worker with this environment, on RabbitMQ. It returns the relay."""
    relay = Process(
        "relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log", env={"BROKER_URL": rabbitmq.url}
    )

    def start(**environ: str) -> Process:
        start_worker("-c", "1", BROKER_URL=rabbitmq.url, **environ)
        return relay.start()

    yield start
    relay.stop()


def declare(server: RabbitMQ, queue: str, **arguments: Any) -> None:
    """As anybody else would. Raises PreconditionFailed if the queue exists with other arguments."""
    with Connection(server.url, transport="kombu.transport.pyamqp:Transport") as connection:
        connection.channel().queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)


def call(server: RabbitMQ, task: str, *args: Any, **options: str) -> None:
    """A plain task, in `public`."""
    celery(server, "call", task, f"--args={json.dumps(args)}", *(f"--{name}={text}" for name, text in options.items()))


def celery(server: RabbitMQ, *command: str) -> str:
    argv = [sys.executable, "-m", "celery", "-A", "config", *command]
    env = {**os.environ, "BROKER_URL": server.url}
    done = subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dispatch(tenant: Tenant, *names: str) -> None:
    with schema_context(tenant.schema_name):
        mark.map_on_commit([(name,) for name in names])


def publisher_on(server: RabbitMQ) -> Publisher:
    app: Any = app_or_default()
    return Publisher(app, app.send_job, broker=app.connection_for_write(server.url))


def test_where_there_are_no_queues_quorum_queues_are_made(
    start: Callable[[], Process], rabbitmq: RabbitMQ, acme: Tenant
) -> None:
    start()
    dispatch(acme, "tea")
    call(rabbitmq, "tests.jobs.probes.probe", "coffee")

    eventually(lambda: where_ran("tea") == [acme.schema_name], "the durable job ran")
    eventually(lambda: where_ran("coffee") == ["public"], "the plain task ran")
    for queue in QUEUES:
        declare(rabbitmq, queue, **QUORUM)
        with pytest.raises(PreconditionFailed):
            declare(rabbitmq, queue)


@pytest.mark.parametrize(
    "arguments",
    [
        QUORUM,
        {**QUORUM, "x-delivery-limit": 5, "x-max-length": 100_000},
        {"x-queue-type": "classic"},
        {"x-max-priority": 5},
        {"x-message-ttl": 3_600_000},
    ],
    ids=["quorum", "quorum, limited", "classic", "with priorities", "with a time to live"],
)
def test_queues_that_exist_are_used_as_they_are(
    start: Callable[[], Process], rabbitmq: RabbitMQ, acme: Tenant, arguments: dict[str, Any]
) -> None:
    for queue in QUEUES:
        declare(rabbitmq, queue, **arguments)

    relay = start()
    dispatch(acme, "tea", "sugar")
    call(rabbitmq, "tests.jobs.probes.probe", "coffee")

    for name in ("tea", "sugar"):
        eventually(lambda name=name: where_ran(name) == [acme.schema_name], "the durable jobs ran")  # type: ignore[misc]
    eventually(lambda: where_ran("coffee") == ["public"], "the plain task ran")
    assert "pauses" not in relay.output
    for queue in QUEUES:
        declare(rabbitmq, queue, **arguments)


def test_a_queue_that_is_deleted_meanwhile_is_made_again(
    start: Callable[[], Process], rabbitmq: RabbitMQ, acme: Tenant
) -> None:
    start()
    dispatch(acme, "before")
    eventually(lambda: where_ran("before"), "the first job ran")

    rabbitmq.delete(*QUEUES)
    dispatch(acme, "after")

    eventually(lambda: where_ran("after") == [acme.schema_name], "the second job ran")


def test_plain_tasks_with_a_countdown_do_not_occupy_the_worker(
    start: Callable[[], Process], rabbitmq: RabbitMQ, acme: Tenant
) -> None:
    start()
    for number in range(10):
        call(rabbitmq, "tests.jobs.probes.probe", f"in an hour {number}", countdown="3600")
    call(rabbitmq, "tests.jobs.probes.probe", "soon", countdown="1")
    call(rabbitmq, "tests.jobs.probes.probe", "now")
    dispatch(acme, "tea")

    for name in ("soon", "now", "tea"):
        eventually(lambda name=name: where_ran(name), name)  # type: ignore[misc]
    assert where_ran("in an hour 0") == []


@pytest.mark.usefixtures("committed_db")
def test_the_relay_keeps_a_quorum_queue_short(rabbitmq: RabbitMQ, acme: Tenant) -> None:
    publisher = publisher_on(rabbitmq)
    assert publisher.room() == MIN_DEPTH
    dispatch(acme, *map(str, range(2 * MIN_DEPTH)))

    assert Relay(publisher).tick()

    eventually(lambda: rabbitmq.length("jobs") == MIN_DEPTH, "the queue is full")
    assert publisher.room() == 0
    publisher.close()
    current_app.control.purge()


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("user", ["tenantry:wrong", "nobody:wrong"])
def test_a_relay_that_the_broker_refuses_says_so(rabbitmq: RabbitMQ, tmp_path: Path, user: str) -> None:
    refused = {"BROKER_URL": f"amqp://{user}@127.0.0.1:{rabbitmq.port}//"}
    with Process("relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log", env=refused) as relay:
        eventually(lambda: sql("SELECT name FROM public.jobs_relaypulse WHERE error <> ''"), "it says so")
        assert relay.running


def test_a_worker_answers_who_inspects_it(start: Callable[..., Process], rabbitmq: RabbitMQ) -> None:
    start(WORKER_REMOTE_CONTROL="1")
    assert "pong" in celery(rabbitmq, "inspect", "ping", "--timeout=10")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_port(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    lines = [
        f"listeners.ssl.default = 127.0.0.1:{port}",
        f"ssl_options.certfile = {certificate}",
        f"ssl_options.keyfile = {certificate.with_suffix('.key')}",
    ]
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq"), more="\n".join(lines)):
        yield port


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("host", "trusted", "expected"),
    [
        (HOST, True, "sent"),
        (HOST, False, "CERTIFICATE_VERIFY_FAILED"),
        (OTHER_NAME, True, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_amqps_trusts_certificates_of_known_authorities_for_that_host_alone(
    tls_port: int, certificate: Path, host: str, trusted: bool, expected: str
) -> None:
    url = f"amqps://{USER}:{quote(PASSWORD, safe='')}@{host}:{tls_port}//"
    env = {**os.environ, "BROKER_URL": url, **({"SSL_CERT_FILE": str(certificate)} if trusted else {})}
    code = "from tests.jobs.probes import probe; probe.delay('tea'); print('sent')"
    argv = [sys.executable, "manage.py", "shell", "--no-imports", "-c", code]
    done = subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=60)
    assert expected in done.stdout + done.stderr
