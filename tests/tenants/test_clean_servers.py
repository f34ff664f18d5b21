"""Whatever a request leaves behind, and however it ends, the next one finds nothing: in real web servers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from devstack.ports import answers, free_port
from devstack.processes import Process, wait_until
from tenants.models import Tenant
from tests.jobs.durables import groups
from tests.leftovers import LEFTOVERS, TRANSACTIONS
from tests.tenants.observer import Observer, observing
from tests.tenants.urls_of_owners import AT_ONCE

# How each is started; `threads` is the Procfile's.
SERVERS = {
    "threads": ["-c", "config/gunicorn.py", "--threads", str(AT_ONCE)],
    "gthread": ["-k", "gthread", "--threads", str(AT_ONCE)],
    "gevent": ["-k", "gevent"],
}
PUBLIC = "localhost"
OPEN = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in transaction%%'"
ALL = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
WAITING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 43 AND NOT granted"


class Server:
    """A web server of one process, and as many clients as it has threads, each with a connection that is kept."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind = kind
        self._url = f"http://127.0.0.1:{port}"
        self.clients = [self.new_client() for _ in range(AT_ONCE)]

    def new_client(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, timeout=30)

    def at_once(self, path: str, *hosts: str, **headers: str) -> list[httpx.Response]:
        """The responses to one request by each client, which all are in their views at the same time."""
        turns = [hosts[number % len(hosts)] for number in range(AT_ONCE)]

        def get(client: httpx.Client, host: str) -> httpx.Response:
            return client.get(path, headers={"host": host, **headers})

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(get, self.clients, turns))

    def get(self, path: str, host: str) -> Any:
        with self.new_client() as client:
            return client.get(path, headers={"host": host}).json()


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    port = free_port()
    log = tmp_path_factory.mktemp(request.param) / "web.log"
    command = ["gunicorn", "config.wsgi", *SERVERS[request.param], f"--bind=127.0.0.1:{port}"]
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.tenants.owner_settings",
        "PGAPPNAME": request.param,
        "WEB_CONCURRENCY": "1",
        "THROTTLE_ADDRESS": "100000/s",
    }
    with Process(request.param, command, log=log, env=env, ready=lambda: answers(port)):
        server = Server(request.param, port)
        yield server
        for client in server.clients:
            client.close()


@pytest.fixture
def observer() -> Iterator[Observer]:
    with observing() as observer:
        yield observer


@pytest.fixture(autouse=True)
def _committed(committed_db: None) -> None:
    """What the server does is committed."""


def host_of(tenant: Tenant) -> str:
    return f"{tenant.slug}.localhost"


def assert_nothing_is_found(responses: list[httpx.Response], schemas: set[str]) -> set[int]:
    """By any of them, each of which is at home; the database sessions that they had."""
    assert [response.status_code for response in responses] == [200] * AT_ONCE, responses[0].text
    seen = [response.json() for response in responses]
    assert [report["found"] for report in seen] == [[]] * AT_ONCE
    assert all(report["schema"] == report["believed"] for report in seen)
    assert {report["schema"] for report in seen} == schemas
    return {report["session"] for report in seen}


def look(server: Server, globex: Tenant) -> set[int]:
    """Let the next ones look; the sessions that they had."""
    rolled_back = server.at_once("/looks/?rolls_back", host_of(globex))
    sessions = assert_nothing_is_found(rolled_back, {globex.schema_name})
    assert_nothing_is_found(server.at_once("/looks/", PUBLIC), {"public"})
    mixed = server.at_once("/looks/?rolls_back", PUBLIC, host_of(globex))
    assert_nothing_is_found(mixed, {"public", globex.schema_name})
    return sessions


@pytest.mark.parametrize("host", ["acme.localhost", PUBLIC])
def test_the_next_requests_find_nothing(server: Server, acme: Tenant, globex: Tenant, host: str) -> None:
    responses = server.at_once("/leaves/", host)
    sessions = assert_nothing_is_found(responses, {"public" if host == PUBLIC else acme.schema_name})
    assert [set(LEFTOVERS) - {*response.json()["left"]} for response in responses] == [set()] * AT_ONCE

    assert look(server, globex) == sessions


@pytest.mark.parametrize("host", ["acme.localhost", PUBLIC])
def test_the_next_requests_find_nothing_of_one_that_failed(
    server: Server, acme: Tenant, globex: Tenant, host: str
) -> None:
    responses = server.at_once("/leaves/?fails", host)
    assert [response.status_code for response in responses] == [500] * AT_ONCE

    look(server, globex)


def test_the_next_requests_find_nothing_of_one_that_failed_before_its_tenant_was_known(
    server: Server, acme: Tenant, globex: Tenant
) -> None:
    responses = server.at_once("/looks/", host_of(acme), **{"x-raise-early": "1"})
    assert [response.status_code for response in responses] == [500] * AT_ONCE

    look(server, globex)


@pytest.mark.parametrize("query", ["", "&fails"])
@pytest.mark.parametrize("how", TRANSACTIONS)
@pytest.mark.parametrize("host", ["acme.localhost", PUBLIC])
def test_a_transaction_ends_with_its_request(
    server: Server, acme: Tenant, globex: Tenant, observer: Observer, host: str, how: str, query: str
) -> None:
    server.at_once(f"/leaves_a_transaction/?how={how}{query}", host)

    wait_until(lambda: not observer.execute(OPEN, server.kind), seconds=30, what="the end of all transactions")
    assert observer.groups() == {}
    server.get("/works/?name=kept", host_of(globex))
    assert groups(globex.schema_name) == ["kept"]
    look(server, globex)


def test_the_next_requests_find_nothing_of_a_stream_that_is_cut_off(
    server: Server, acme: Tenant, globex: Tenant, observer: Observer
) -> None:
    def read_a_little(client: httpx.Client) -> None:
        with client.stream("GET", "/streams/", headers={"host": host_of(acme)}) as response:
            next(response.iter_raw())

    before = server.get("/closed/", PUBLIC)["closed"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(read_a_little, server.clients))
    wait_until(lambda: server.get("/closed/", PUBLIC)["closed"] == before + AT_ONCE, seconds=20, what="the end of all")

    wait_until(lambda: not observer.execute(OPEN, server.kind), seconds=30, what="the end of all transactions")
    look(server, globex)


def test_requests_of_two_tenants_at_the_same_time_see_their_own_rows(
    server: Server, acme: Tenant, globex: Tenant
) -> None:
    def work(number: int) -> None:
        tenant = (acme, globex)[number % 2]
        seen = server.get(f"/works/?name={tenant.slug} {number}", host_of(tenant))
        assert seen["schema"] == seen["believed"] == tenant.schema_name
        assert {name.partition(" ")[0] for name in seen["names"]} == {tenant.slug}
        assert seen["found"] == ""

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(work, range(40)))

    assert groups(acme.schema_name) == sorted(f"acme {number}" for number in range(0, 40, 2))
    assert groups(globex.schema_name) == sorted(f"globex {number}" for number in range(1, 40, 2))


def test_a_request_that_waits_for_the_database_holds_up_no_other(
    server: Server, acme: Tenant, globex: Tenant, observer: Observer
) -> None:
    observer.execute("SELECT pg_advisory_lock(43)")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.get, "/waits/", host_of(acme))
        wait_until(lambda: bool(observer.execute(WAITING)), seconds=30, what="a request that waits")

        assert server.get("/looks/?alone", host_of(globex))["found"] == []

        observer.execute("SELECT pg_advisory_unlock(43)")
        assert waiting.result()["schema"] == acme.schema_name


def test_a_greenlet_takes_its_session_along(server: Server, acme: Tenant, observer: Observer) -> None:
    server.at_once("/looks/", host_of(acme))
    if server.kind != "gevent":
        assert len(observer.execute(ALL, server.kind)) == AT_ONCE
        return
    for client in server.clients:
        client.close()
    server.clients = [server.new_client() for _ in range(AT_ONCE)]

    wait_until(lambda: not observer.execute(ALL, server.kind), seconds=30, what="the end of all sessions")
