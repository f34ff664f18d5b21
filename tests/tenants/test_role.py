"""The defaults of database sessions: who has them, and who does not start without them."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from django.core.management import call_command
from pytest_django import Settings

from devstack.ports import free_port
from devstack.processes import Process, wait_until
from devstack.procfile import commands
from tenants import role
from tenants.connection import connection
from tests.chaos.proxy import Mode, Proxy

KINDS = ("web", "worker", "relay", "beat")
EXPECTED = {
    "search_path": "pg_catalog, pg_temp",
    "default_transaction_isolation": "read committed",
    "TimeZone": "UTC",
    "idle_in_transaction_session_timeout": "35s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
WRITTEN = """
    SELECT unnest(setconfig) FROM pg_db_role_setting
    JOIN pg_roles ON pg_roles.oid = setrole JOIN pg_database ON pg_database.oid = setdatabase
    WHERE rolname = current_user AND datname = current_database()
"""


@contextmanager
def new_session() -> Iterator[psycopg.Connection]:
    """A session that our backend knows nothing of."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
        yield session


def shown(session: psycopg.Connection) -> dict[str, str]:
    return {name: session.execute(f"SHOW {name}").fetchall()[0][0] for name in EXPECTED}


def written() -> set[str]:
    with new_session() as session:
        return {setting for (setting,) in session.execute(WRITTEN).fetchall()}


@pytest.fixture
def without(committed_db: None) -> Iterator[Callable[[str], None]]:
    """Takes a default away until the test ends."""

    def without(name: str) -> None:
        with new_session() as session:
            database = session.info.dbname
            session.execute(f'ALTER ROLE CURRENT_USER IN DATABASE "{database}" RESET {name}')
        connection.close()

    yield without
    role.write_role_defaults()
    connection.close()


# The role


@pytest.mark.skipif(not os.environ["DATABASE_SUPERUSER_URL"], reason="DATABASE_URL's role is the user's own")
def test_the_tests_run_as_a_role_that_is_no_superuser_and_owns_its_database_alone(committed_db: None) -> None:
    with new_session() as session:
        [rights] = session.execute(
            """
            SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
                (SELECT count(*) FROM pg_auth_members WHERE member = pg_roles.oid)
            FROM pg_roles WHERE rolname = current_user
            """
        ).fetchall()
        [owner] = session.execute(
            "SELECT pg_get_userbyid(datdba) = current_user FROM pg_database WHERE datname = current_database()"
        ).fetchall()
    assert rights == (False, False, False, False, False, 0)
    assert owner == (True,)


# The defaults


def test_a_new_session_has_them(committed_db: None) -> None:
    with new_session() as session:
        assert shown(session) == EXPECTED


def test_they_survive_reset_all(committed_db: None) -> None:
    with new_session() as session:
        session.execute(
            "SET search_path = public; SET idle_in_transaction_session_timeout = 0; SET timezone = 'Asia/Tokyo'"
        )
        session.execute("RESET ALL")
        assert shown(session) == EXPECTED


def test_what_bypasses_the_backend_finds_no_table(committed_db: None) -> None:
    with new_session() as session, pytest.raises(psycopg.errors.UndefinedTable):
        session.execute("SELECT FROM tenants_tenant")


def test_the_session_that_writes_them_goes_on_working(without: Callable[[str], None]) -> None:
    without("search_path")
    role.write_role_defaults()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants_tenant")
        assert cursor.fetchone() == (2,)


def test_the_release_step_writes_them_and_may_be_repeated(without: Callable[[str], None]) -> None:
    role.remove_role_defaults()
    assert written() == set()

    for _ in range(2):
        call_command("migrate_tenants", verbosity=0)
        connection.close()
        assert role.wrong_defaults() == {}
        assert len(written()) == len(EXPECTED)


def test_two_may_write_them_at_once(committed_db: None) -> None:
    def write(_: int) -> None:
        role.write_role_defaults()
        connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(40)))
    assert len(written()) == len(EXPECTED)


def test_undoing_leaves_the_roles_other_settings(without: Callable[[str], None]) -> None:
    with new_session() as session:
        session.execute(f"ALTER ROLE CURRENT_USER IN DATABASE \"{session.info.dbname}\" SET work_mem = '5MB'")
    role.remove_role_defaults()
    assert written() == {"work_mem=5MB"}
    without("work_mem")


def test_the_command_shows_writes_and_removes_them(
    without: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("role_defaults", remove=True)
    assert "idle_in_transaction_session_timeout = 0  (should be 35000)\n" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ending:
        call_command("role_defaults")
    assert ending.value.code == 1

    call_command("role_defaults", write=True)
    assert "idle_in_transaction_session_timeout = 35000\n" in capsys.readouterr().out


@pytest.mark.parametrize("milliseconds", [1, 1_000_000])
def test_an_idle_guard_of_another_release_is_not_wrong(
    committed_db: None, settings: Settings, milliseconds: int
) -> None:
    settings.IDLE_IN_TRANSACTION_MILLISECONDS = milliseconds
    assert role.wrong_defaults() == {}


def test_no_idle_guard_is_wrong(without: Callable[[str], None]) -> None:
    without("idle_in_transaction_session_timeout")
    assert role.wrong_defaults() == {"idle_in_transaction_session_timeout": "0"}


# The start of a process


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Process]:
    def process(kind: str, **env: str) -> Process:
        extra = {
            "web": f"--bind=127.0.0.1:{env.get('PORT', free_port())} --workers=1",
            "worker": f"-P solo -n {tmp_path.name} -Q {tmp_path.name}",
        }
        line = f"exec env {commands()[kind]} {extra.get(kind, '')}"
        return Process(kind, ["sh", "-c", line], log=tmp_path / f"{kind}.log", env=env)

    return process


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_without_a_default_ends_at_once_with_one_line(
    without: Callable[[str], None], process: Callable[..., Process], kind: str
) -> None:
    without("idle_in_transaction_session_timeout")
    with process(kind, LOG_JSON="0") as ending:
        wait_until(lambda: not ending.running, seconds=60, what="the end")
        lines = [line for line in ending.output.splitlines() if "migrate_tenants" in line]
        code = ending.returncode

    assert code  # gunicorn makes 1 of it if a second process ends meanwhile
    assert len(lines) in ((1, 2) if kind == "web" else (1,))
    assert "idle_in_transaction_session_timeout is '0', not '35000'. Run the release step" in lines[0]
    assert "Traceback" not in ending.log.read_text()


@pytest.mark.parametrize("kind", ["worker", "relay", "beat"])
def test_a_process_waits_for_the_database_and_then_ends(
    without: Callable[[str], None], process: Callable[..., Process], kind: str
) -> None:
    without("search_path")
    with away() as (url, database), process(kind, DATABASE_URL=url) as waiting:
        waiting.wait_for("Waiting for the database", seconds=60)
        database.turn(Mode.PASS)
        waiting.wait_for("search_path is ")
        wait_until(lambda: not waiting.running, seconds=60, what="the end")
        assert waiting.returncode == role.EXIT_CODE


@pytest.mark.parametrize("kind", ["worker", "relay", "beat"])
def test_a_process_that_waits_ends_at_sigterm(committed_db: None, process: Callable[..., Process], kind: str) -> None:
    with away() as (url, _), process(kind, DATABASE_URL=url) as waiting:
        waiting.wait_for("Waiting for the database", seconds=60)
        waiting.signal(signal.SIGTERM)
        wait_until(lambda: not waiting.running, seconds=30, what="the end")


def test_web_lives_without_the_database_and_ends_with_its_first_connection(
    without: Callable[[str], None], process: Callable[..., Process]
) -> None:
    without("search_path")
    port = free_port()
    with away() as (url, database), process("web", DATABASE_URL=url, PORT=str(port)) as web:
        wait_until(lambda: answers(port, "/livez"), seconds=60, what="/livez")
        assert get(port, "/readyz") == 503

        database.turn(Mode.PASS)
        wait_until(lambda: not answers(port, "/readyz"), seconds=60, what="the end of an answer")

        wait_until(lambda: not web.running, seconds=60, what="the end")
        assert web.returncode
        assert "search_path is " in web.output


def test_web_serves_when_the_database_is_back(committed_db: None, process: Callable[..., Process]) -> None:
    port = free_port()
    with away() as (url, database), process("web", DATABASE_URL=url, PORT=str(port)) as web:
        wait_until(lambda: answers(port, "/livez"), seconds=60, what="/livez")
        database.turn(Mode.PASS)
        assert [get(port, "/readyz") for _ in range(4)] == [200] * 4
        assert web.running


@contextmanager
def away() -> Iterator[tuple[str, Proxy]]:
    """The database behind a proxy that refuses, and its URL there."""
    parts = connection.settings_dict
    with Proxy(int(parts["PORT"] or 5432)) as database:
        database.turn(Mode.CUT)
        yield f"postgres://{parts['USER']}:{parts['PASSWORD']}@127.0.0.1:{database.port}/{parts['NAME']}", database


def get(port: int, path: str) -> int:
    url = f"http://127.0.0.1:{port}{path}"
    return httpx.get(url, headers={"Host": "localhost"}, timeout=10, trust_env=False).status_code


def answers(port: int, path: str) -> bool:
    try:
        get(port, path)
    except httpx.HTTPError:
        return False
    return True
