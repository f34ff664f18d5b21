"""The addresses of broker and cache: what is refused, and that what is taken leads where it says."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from celery import Celery, current_app
from django.core.cache.backends.redis import RedisCache
from django_tenants.utils import schema_context
from pytest_django import Settings

from devstack import CHECKOUT
from devstack.ports import free_port
from devstack.processes import Process
from devstack.valkey import Valkey
from jobs.celery_hooks import broker, rabbitmq
from jobs.checks import check_project
from jobs.models import Heartbeat
from jobs.servers import BROKERS, CACHES, find_problem, warn_of_eviction
from tests.jobs.conftest import eventually, where_ran
from tests.jobs.probes import probe
from tests.tls import HOST, OTHER_NAME, make_certificate, tls_proxy

SECRET = "s3cret"
USES = {
    "cache": "from django.core.cache import cache; cache.set('here', 1)",
    "broker": "from tests.jobs.probes import probe; probe.delay('x')",
}
# What a URL, Django or kombu could take for something else
PASSWORD = "p@ss/w:rd#?;,%&+ [ü]"
BAD = {
    "no scheme": f":{SECRET}@redis.example:6379/0",
    "another protocol": "http://redis.example:6379/0",
    "a cluster": f"redis+cluster://:{SECRET}@redis.example:6379/0",
    "sentinels": f"sentinel://:{SECRET}@redis.example:26379/0",
    "a misspelt scheme": "reddis://redis.example:6379/0",
    "another case": "Redis://redis.example:6379/0",
    "Valkey's name": "valkey://valkey.example:6379/0",
    "one slash": "redis:/redis.example:6379/0",
    "a blank in front": " redis://redis.example:6379/0",
    "a module's name": "os.path:join://redis.example/0",
    "no host": "redis:///0",
    "an empty host": f"redis://:{SECRET}@:6379/0",
    "a port that is no number": f"redis://redis.example:{SECRET}/0",
    "a raw slash in the password": "redis://:12/s3cret@redis.example:6379/0",
    "a raw hash in the password": "redis://user#s3cret@redis.example:6379/0",
    "a raw question mark in the password": "redis://user?s3cret@redis.example:6379/0",
    "a database that is no number": "redis://redis.example:6379/one",
    "a negative database": "redis://redis.example:6379/-1",
    "several servers": "redis://one.example/0;redis://two.example/0",
    "an unknown parameter": "redis://redis.example/0?retry=1",
    "TLS's parameter without TLS": "redis://redis.example/0?ssl_cert_reqs=none",
}
BAD_BROKERS = {
    **BAD,
    "the cache's spelling of a socket": "unix:///run/valkey.sock",
    "a socket without a path": "redis+socket://valkey.sock",
    "a socket's database that is no number": "redis+socket:///run/valkey.sock?virtual_host=one",
    "Redis' TLS parameter with RabbitMQ": "amqps://rabbit.example//?ssl_cert_reqs=none",
    "RabbitMQ without a host": "amqp://",
    "a virtual host with a raw password": "amqp://user/s3cret@rabbit.example/",
    "kombu's other transports": "memory://localhost",
}
BAD_CACHES = {
    **BAD,
    "nothing": "",
    "RabbitMQ": "amqp://rabbit.example//",
    "the broker's spelling of a socket": "redis+socket:///run/valkey.sock",
    "a socket without a path": "unix://",
}
GOOD = [
    "redis://localhost:6379/0",
    "redis://redis.example",
    f"redis://:{SECRET}@redis.example:6379/15",
    f"rediss://user:{quote(PASSWORD, safe='')}@redis.example:6380/0?ssl_cert_reqs=none",
    "rediss://redis.example?ssl_ca_certs=/etc/ca.pem",
    "redis://[::1]:6379/0",
]
GOOD_BROKERS = [
    *GOOD,
    f"redis+socket://:{SECRET}@/run/valkey.sock?virtual_host=3",
    f"amqp://user:{SECRET}@rabbit.example:5672//",
    f"amqps://user:{quote(PASSWORD, safe='')}@rabbit.example/vhost",
]
GOOD_CACHES = [*GOOD, f"unix://:{SECRET}@/run/valkey.sock?db=3"]


@pytest.mark.parametrize("url", BAD_BROKERS.values(), ids=BAD_BROKERS)
def test_e020_a_brokers_address_that_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(current_app.conf, "broker_read_url", url)
    monkeypatch.setattr(current_app.conf, "broker_write_url", url)
    [error] = check_project()
    assert (error.id, error.msg.startswith("The broker's address ")) == ("jobs.E020", True)
    assert "BROKER_URL" in str(error.hint)
    assert SECRET not in str(error)


@pytest.mark.parametrize("url", BAD_CACHES.values(), ids=BAD_CACHES)
@pytest.mark.parametrize("wrap", [lambda url: url, lambda url: [url]], ids=["as it is", "in a list"])
def test_e021_a_caches_address_that_is_refused(
    settings: Settings, url: str, wrap: Callable[[str], str | list[str]]
) -> None:
    settings.CACHES = {**settings.CACHES, "default": {**settings.CACHES["default"], "LOCATION": wrap(url)}}
    [error] = check_project()
    assert (error.id, "the cache 'default'" in error.msg) == ("jobs.E021", True)
    assert "CACHE_URL" in str(error.hint)
    assert SECRET not in str(error)


@pytest.mark.parametrize("name", ["broker_read_url", "broker_write_url"])
def test_e020_an_address_that_overrides_ours(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(current_app.conf, name, "rediss://redis.example/0")
    [error] = check_project()
    assert (error.id, "is not BROKER_URL" in error.msg) == ("jobs.E020", True)


@pytest.mark.parametrize("url", GOOD_BROKERS)
def test_a_brokers_address_that_is_taken(url: str) -> None:
    assert find_problem(url, BROKERS) is None


@pytest.mark.parametrize("url", GOOD_CACHES)
def test_a_caches_address_that_is_taken(url: str) -> None:
    assert find_problem(url, CACHES) is None
    RedisCache([url], {})._cache.get_client()  # what Django makes of it


def test_a_cache_without_a_server_has_no_address(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert check_project() == []


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://localhost/0", broker.Transport),
        ("rediss://localhost/0", broker.Transport),
        ("redis+socket:///run/valkey.sock", broker.Transport),
        ("amqp://localhost//", rabbitmq.Transport),
        ("amqps://localhost//", rabbitmq.SSLTransport),
    ],
)
def test_the_scheme_chooses_the_transport(url: str, transport: type) -> None:
    assert type(current_app.connection_for_write(url).transport) is transport
    assert type(current_app.connection_for_write(url).clone().transport) is transport


# Processes


@pytest.mark.parametrize(
    ("variable", "url", "id"),
    [
        ("REDIS_URL", f"sentinel://:{SECRET}@localhost:26379/0", "jobs.E020"),
        ("REDIS_URL", f"sentinel://:{SECRET}@localhost:26379/0", "jobs.E021"),
        ("BROKER_URL", f"redis+cluster://:{SECRET}@localhost:6379/0", "jobs.E020"),
        ("CACHE_URL", f"amqp://user:{SECRET}@localhost:5672//", "jobs.E021"),
        ("CELERY_BROKER_URL", f"http://user:{SECRET}@localhost/", "jobs.E020"),
    ],
)
def test_the_release_step_refuses_it(variable: str, url: str, id: str) -> None:
    done = manage("check", **{variable: url})
    assert done.returncode == 1
    assert id in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    "line", ["celery -A config worker -P solo", "python manage.py relay", "celery -A config beat -s {folder}/schedule"]
)
@pytest.mark.usefixtures("committed_db")
def test_worker_relay_and_beat_do_not_start(line: str, tmp_path: Path) -> None:
    env = {"BROKER_URL": "redis+cluster://localhost:6379/0"}
    process = Process(
        "process",
        line.format(folder=tmp_path).split(),
        log=tmp_path / "log",
        env=env,
        ready=lambda: not process.running,
    )
    with pytest.raises(Exception, match="ended with code 1"):
        process.start()
    assert "jobs.E020" in process.log.read_text()


@pytest.mark.usefixtures("committed_db")
def test_beat_starts(tmp_path: Path) -> None:
    command = ["celery", "-A", "config", "beat", "-l", "DEBUG", "-s", str(tmp_path / "schedule")]
    with Process("beat", command, log=tmp_path / "log") as beat:
        beat.wait_for("beat: Ticking with")
        beat.wait_for("beat: Waking up in")


def test_redis_url_is_the_default_of_both() -> None:
    seen = settings_with(REDIS_URL="redis://one.example/1", BROKER_URL="", CACHE_URL="")
    assert seen == ["redis://one.example/1", "['redis://one.example/1']"]


def test_each_has_a_url_of_its_own() -> None:
    seen = settings_with(
        REDIS_URL="redis://one.example/1", BROKER_URL="amqp://two.example//", CACHE_URL="redis://three.example/2"
    )
    assert seen == ["amqp://two.example//", "['redis://three.example/2']"]


def settings_with(**environ: str) -> list[str]:
    """The broker's address and the caches'."""
    code = (
        "from django.conf import settings as s; print(s.CELERY_BROKER_URL, s.CACHES['shared']['LOCATION'], sep='\\n')"
    )
    done = manage("shell", "--no-imports", "-c", code, **environ)
    return done.stdout.splitlines()


def manage(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "manage.py", *command]
    return subprocess.run(argv, cwd=CHECKOUT, env={**os.environ, **environ}, capture_output=True, text=True)


# Servers


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One with a socket, and a user whose password is hard to write down."""
    folder = tmp_path_factory.mktemp("valkey")
    server = Valkey(folder, password="plain")
    with (folder / "valkey.conf").open("a") as configuration:
        configuration.write(f"unixsocket {folder}/valkey.sock\n")
    with server:
        with redis.Redis.from_url(server.url) as client:
            client.acl_setuser(
                "ada", enabled=True, passwords=[f"+{PASSWORD}"], keys="*", channels="*", commands=["+@all"]
            )
        yield server


def addresses(server: Valkey, *, socket: bool) -> dict[str, str]:
    """Of database 3 for the broker, and of database 2 for the caches."""
    user = f"ada:{quote(PASSWORD, safe='')}"
    path = server.log.parent / "valkey.sock"
    if socket:
        return {
            "BROKER_URL": f"redis+socket://{user}@{path}?virtual_host=3",
            "CACHE_URL": f"unix://{user}@{path}?db=2",
        }
    at = f"redis://{user}@127.0.0.1:{server.port}"
    return {"BROKER_URL": f"{at}/3", "CACHE_URL": f"{at}/2"}


@pytest.mark.parametrize("socket", [False, True], ids=["by TCP", "by a socket"])
def test_any_password_and_database_work_for_broker_and_cache(
    valkey: Valkey, start_worker: Callable[..., Process], socket: bool
) -> None:
    environ = addresses(valkey, socket=socket)
    assert manage("check", **environ).returncode == 0

    done = manage("shell", "--no-imports", "-c", "; ".join(USES.values()), **environ)
    assert done.returncode == 0, done.stderr

    with redis.Redis.from_url(valkey.url) as client:
        client.select(3)
        assert [client.llen(key) for key in client.keys("*celery") if client.type(key) == b"list"] == [1]
        client.select(2)
        assert len(client.keys("*here")) == 1
    start_worker("-c", "1", **environ)
    eventually(lambda: where_ran("x") == ["public"], "the task ran")


def test_the_acl_of_the_documents_is_enough(
    valkey: Valkey, start_worker: Callable[..., Process], tmp_path: Path
) -> None:
    text = (CHECKOUT / "docs/explanation/security.md").read_text()
    [line] = re.findall(r"^ +(ACL SETUSER tenantry .*)$", text, flags=re.MULTILINE)
    with redis.Redis.from_url(valkey.url) as client:
        client.execute_command(*line.split())
    url = f"redis://tenantry:password@127.0.0.1:{valkey.port}"
    environ = {"BROKER_URL": f"{url}/4", "CACHE_URL": f"{url}/5"}

    done = manage("shell", "--no-imports", "-c", "; ".join(USES.values()), **environ)
    assert done.returncode == 0, done.stderr
    worker = start_worker("-c", "1", **environ)
    with Process("relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log", env=environ):
        with schema_context("public"):
            probe.delay_on_commit("a durable one")
        eventually(lambda: where_ran("a durable one") == ["public"], "the job ran")
    eventually(lambda: where_ran("x"), "the task ran")
    assert "NOPERM" not in worker.output

    with redis.Redis.from_url(f"{url}/4") as client:
        for forbidden in ("CONFIG GET *", "KEYS *", "FLUSHALL", "ACL LIST", "SHUTDOWN", "MONITOR"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*forbidden.split())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("host", "query", "environ", "trusted"),
    [
        (HOST, "", {}, False),
        (HOST, "", {"SSL_CERT_FILE": "{certificate}"}, True),
        (HOST, "?ssl_ca_certs={certificate}", {}, True),
        (HOST, "?ssl_cert_reqs=none", {}, True),
        (HOST, "", {"REDIS_TLS_SELF_SIGNED": "1"}, True),
        (OTHER_NAME, "", {"SSL_CERT_FILE": "{certificate}"}, False),
    ],
)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_rediss_trusts_what_it_is_told_to(
    valkey: Valkey, certificate: Path, host: str, query: str, environ: dict[str, str], trusted: bool, use: str
) -> None:
    given = {name: text.format(certificate=certificate) for name, text in environ.items()}
    with tls_proxy(valkey.port, certificate) as port:
        url = f"rediss://:plain@{host}:{port}/0{query.format(certificate=certificate)}"
        done = manage("shell", "--no-imports", "-c", use, REDIS_URL=url, BROKER_URL="", CACHE_URL="", **given)
    assert (done.returncode == 0) is trusted, done.stderr
    assert ("CERTIFICATE_VERIFY_FAILED" in done.stderr) is not trusted


@pytest.mark.parametrize(
    ("policy", "maxmemory", "warned"),
    [
        ("allkeys-lru", "100mb", True),
        ("allkeys-random", "100mb", True),
        ("allkeys-lru", "0", False),
        ("volatile-lru", "100mb", False),
        ("noeviction", "100mb", False),
    ],
)
def test_a_broker_that_drops_queues_is_warned_of(
    valkey: Valkey, caplog: pytest.LogCaptureFixture, policy: str, maxmemory: str, warned: bool
) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory", maxmemory)
        client.config_set("maxmemory-policy", policy)
    caplog.set_level("INFO")

    warn_of_eviction(Celery(broker=valkey.url, set_as_current=False))

    assert [record.levelname for record in caplog.records if policy in record.message] == ["WARNING"] * warned


def test_a_broker_that_forbids_the_question_is_not_warned_of(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.acl_setuser("bob", enabled=True, nopass=True, keys="*", commands=["+@all", "-@dangerous", "-info"])
    caplog.set_level("INFO")

    warn_of_eviction(Celery(broker=f"redis://bob:x@127.0.0.1:{valkey.port}/0", set_as_current=False))

    assert [record.levelname for record in caplog.records if "does not tell" in record.message] == ["INFO"]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_is_not_warned_of(scheme: str) -> None:
    warn_of_eviction(Celery(broker=f"{scheme}://127.0.0.1:{free_port()}/0", set_as_current=False))


@pytest.mark.usefixtures("committed_db")
def test_worker_and_relay_warn_and_start(valkey: Valkey, start_worker: Callable[..., Process], tmp_path: Path) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lfu")
    worker = start_worker("-c", "1", BROKER_URL=valkey.url)
    assert "maxmemory-policy is allkeys-lfu" in worker.output
    relay = Process(
        "relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log", env={"BROKER_URL": valkey.url}
    )
    with relay:
        relay.wait_for("maxmemory-policy is allkeys-lfu")
        eventually(lambda: Heartbeat.objects.exists(), "the relay runs")
