"""While the database is away, a request gets 503, and may be sent again."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import DatabaseError, connection
from django_tenants.utils import tenant_context
from knox.models import AuthToken

from accounts.models import User
from devstack.ports import free_port
from devstack.processes import Process, wait_until
from devstack.procfile import commands
from tenants.models import Tenant
from tenants.outage import is_away
from tests.chaos.proxy import Mode, Proxy, Trap
from tests.jobs.durables import sql
from tests.people import PASSWORD, add_user

pytestmark = pytest.mark.usefixtures("committed_db")

BOB = {"email": "bob@acme.example", "full_name": "Bob", "password": PASSWORD, "role": "member"}
SIGN_UP = {
    "name": "Initech",
    "slug": "initech",
    "owner": {"email": "ann@initech.example", "full_name": "Ann", "password": PASSWORD},
}
SESSION = "sessionid=abcdefghijklmnopqrstuvwxyz012345"
KEY = "5d0cfa2e-52a2-44c9-9a4e-7b0d3c1a7a55"
Ask = Callable[..., httpx.Response]


@pytest.fixture
def database() -> Iterator[Proxy]:
    """What stands between web and the database."""
    with Proxy(int(connection.settings_dict["PORT"] or 5432)) as proxy:
        yield proxy


@pytest.fixture
def ask(acme: Tenant, database: Proxy, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Sends a request to web, as Ada of acme or, with host="localhost", to the public host.

    Its parameter has more of web's environment.
    """
    ada = add_user(acme, "ada", "owner")
    with tenant_context(acme):
        _, token = AuthToken.objects.create(user=ada)
    parts, port = connection.settings_dict, free_port()
    url = f"postgres://{parts['USER']}:{parts['PASSWORD']}@127.0.0.1:{database.port}/{parts['NAME']}"
    line = f"exec {commands()['web']} --bind=127.0.0.1:{port} --workers=1 "

    def ask(method: str, path: str, *, host: str = "acme.localhost", **options: Any) -> httpx.Response:
        own = {"Host": host, "Authorization": f"Bearer {token}", **options.pop("headers", {})}
        return httpx.request(
            method, f"http://127.0.0.1:{port}{path}", headers=own, timeout=20, trust_env=False, **options
        )

    def is_ready() -> bool:
        try:
            return ask("GET", "/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    env = {"DATABASE_URL": url, "DEBUG": "0", "DJANGO_SETTINGS_MODULE": "tests.recorded_settings"}
    env |= getattr(request, "param", {})
    with Process("web", ["sh", "-c", line], log=tmp_path / "web.log", env=env):
        wait_until(is_ready, seconds=60, what="web")
        yield ask


def users(acme: Tenant) -> set[str]:
    with tenant_context(acme):
        return set(User.objects.values_list("email", flat=True))


def assert_away(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["code"] == "database_away"
    assert "127.0.0.1" not in answer.text


def create(ask: Ask) -> httpx.Response:
    return ask("POST", "/api/v1/users/", json=BOB, headers={"Idempotency-Key": KEY})


REQUESTS: dict[str, Callable[[Ask], httpx.Response]] = {
    "a list": lambda ask: ask("GET", "/api/v1/users/"),
    "a creation": create,
    "a log-in": lambda ask: ask("POST", "/api/v1/tokens/", json={"email": "ada@acme.example", "password": PASSWORD}),
    "an unknown host": lambda ask: ask("GET", "/api/v1/users/", host="nobody.localhost"),
    "a sign-up": lambda ask: ask("POST", "/api/v1/tenants/", host="localhost", json=SIGN_UP),
    "the admin's log-in": lambda ask: ask("GET", "/admin/", host="localhost", headers={"Cookie": SESSION}),
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_request_gets_503_while_connections_are_refused(ask: Ask, database: Proxy, request_name: str) -> None:
    database.turn(Mode.CUT)
    assert_away(REQUESTS[request_name](ask))
    database.turn(Mode.PASS)
    assert REQUESTS[request_name](ask).status_code < 500


# While nothing comes back: no answer on what is connected, no new connection

hurried = pytest.mark.parametrize("ask", [{"REQUEST_STATEMENT_SECONDS": "1", "WEB_DB_CONNECTIONS": "2"}], indirect=True)
one_thread = pytest.mark.parametrize("ask", [{"WEB_DB_CONNECTIONS": "1"}], indirect=True)


@hurried
@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_request_gets_503_while_the_path_swallows_everything(ask: Ask, database: Proxy, request_name: str) -> None:
    assert REQUESTS["a list"](ask).status_code == 200  # its thread has a connection
    database.turn(Mode.HOLE)
    for _ in range(4):  # on that connection, and on new ones
        assert_away(REQUESTS[request_name](ask))
    database.turn(Mode.PASS)
    wait_until(lambda: REQUESTS[request_name](ask).status_code < 500, seconds=20, what="an answer without a restart")
    wait_until(lambda: ask("GET", "/readyz").status_code == 200, seconds=20, what="a web that is ready again")


@hurried
@pytest.mark.parametrize("place", [b"knox_authtoken", b'INSERT INTO "accounts_user"', b"public.jobs_dispatch("])
def test_a_request_whose_connection_falls_silent_gets_503_and_may_be_sent_again(
    ask: Ask, acme: Tenant, database: Proxy, place: bytes
) -> None:
    database.trap = Trap(place, silent=True)
    assert_away(create(ask))
    database.trap = None
    wait_until(lambda: create(ask).status_code == 201, seconds=30, what="the second one")
    assert users(acme) == {"ada@acme.example", "bob@acme.example"}
    assert sql("SELECT count(*) FROM public.jobs_job") == [(1,)]


@one_thread
def test_health_is_told_while_all_threads_wait_for_an_answer(ask: Ask, database: Proxy) -> None:
    assert ask("GET", "/api/v1/users/").status_code == 200
    database.turn(Mode.HOLE)
    with ThreadPoolExecutor(1) as client:
        waits = client.submit(ask, "GET", "/api/v1/users/")
        wait_until(lambda: ask("GET", "/readyz").status_code == 503, seconds=20, what="it is noticed")
        assert ask("GET", "/livez").status_code == 200
        assert not waits.done()
        database.turn(Mode.PASS)
        assert_away(waits.result())


def test_strangers_hear_that_it_is_away_and_the_log_hears_why(ask: Ask, database: Proxy, tmp_path: Path) -> None:
    database.turn(Mode.CUT)
    wait_until(lambda: ask("GET", "/readyz").status_code == 503, seconds=20, what="it is noticed")
    assert ask("GET", "/readyz").json() == {"status": "unavailable", "database": "away"}
    answers = [ask("GET", path).text for path in ("/readyz", "/api/v1/users/", "/admin/")]
    log = (tmp_path / "web.log").read_text()
    assert "Not ready, for the database is away: " in log
    secret = connection.settings_dict["PASSWORD"] or "no password"
    assert [text for text in (log, *answers) if secret in text] == []


# Where a request loses its connection: what its statement is about
PLACES = {
    "the tenant": b"tenants_domain",
    "the token": b"knox_authtoken",
    "what is kept of its key": b"idempotency_keptresponse",
    "its own row": b'INSERT INTO "accounts_user"',
    "its job": b"public.jobs_dispatch(",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_request_that_is_cut_gets_503_and_has_no_effect_until_it_is_sent_again(
    ask: Ask, acme: Tenant, database: Proxy, place: str
) -> None:
    # The statement gets through, and its reply does not. A statement that may be repeated is.
    database.trap = Trap(PLACES[place], late=True, times=2)
    first = create(ask)
    database.trap = None
    if first.status_code != 201:
        assert_away(first)
        assert users(acme) == {"ada@acme.example"}
    # 409 until the server has noticed that the first one is gone.
    wait_until(lambda: create(ask).status_code == 201, seconds=30, what="the second one")
    assert users(acme) == {"ada@acme.example", "bob@acme.example"}
    assert sql("SELECT count(*) FROM public.jobs_job") == [(1,)]


def test_a_request_whose_commit_is_cut_may_be_sent_again(ask: Ask, acme: Tenant, database: Proxy) -> None:
    database.trap = Trap(b"COMMIT", after=b"public.jobs_dispatch(")
    first = create(ask)
    database.trap = None
    if first.status_code != 201:
        assert_away(first)
    wait_until(lambda: create(ask).status_code == 201, seconds=30, what="the second one")
    assert users(acme) == {"ada@acme.example", "bob@acme.example"}
    assert sql("SELECT count(*) FROM public.jobs_job") == [(1,)]


# What is no outage


@pytest.mark.parametrize(
    ("statement", "away"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", True),
        ("SELECT 1/0", False),
        ("SELECT nonsense", False),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(10)", False),
        ("SET LOCAL lock_timeout = 1; DO $$ BEGIN RAISE lock_not_available; END $$", False),
        ("DO $$ BEGIN RAISE SQLSTATE '57P01'; END $$", True),
        ("DO $$ BEGIN RAISE SQLSTATE '57P03'; END $$", True),
        ("DO $$ BEGIN RAISE SQLSTATE '53300'; END $$", True),
        ("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$", False),
        ("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$", False),
        ("DO $$ BEGIN RAISE SQLSTATE '08006'; END $$", True),
    ],
)
def test_what_says_that_the_database_is_away(statement: str, away: bool) -> None:
    with pytest.raises(DatabaseError) as raised:
        sql(statement)
    connection.close()
    assert is_away(raised.value) is away


def test_a_closed_cursor_is_no_outage() -> None:
    cursor = connection.cursor()
    cursor.close()
    with pytest.raises(Exception, match="closed") as raised:
        cursor.execute("SELECT 1")
    assert not is_away(raised.value)


def test_a_closed_connection_is_one() -> None:
    connection.ensure_connection()
    connection.connection.close()
    with pytest.raises(Exception, match="closed") as raised:
        sql("SELECT 1")
    assert is_away(raised.value)
    connection.close()
