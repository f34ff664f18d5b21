"""A process finds out at its start what it is behind, and does not start where nothing can be safe."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from devstack import CHECKOUT
from devstack.ports import free_port
from devstack.processes import Process, wait_until
from devstack.procfile import commands
from tenants import role
from tests.poolers.pgbouncer import pgbouncer

pytestmark = [pytest.mark.needs("pgbouncer"), pytest.mark.usefixtures("committed_db")]

KINDS = ("web", "worker", "relay", "beat")
NO_DIRECT_URL = "DATABASE_URL leads to a pooler in transaction mode, and DATABASE_DIRECT_URL is not set. Set it"
DIRECT_URL_IS_POOLED = "DATABASE_DIRECT_URL leads to a pooler in transaction mode. Let it lead past"


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Process]:
    def process(kind: str, **env: str) -> Process:
        extra = {
            "web": f"--bind=127.0.0.1:{free_port()} --workers=1",
            "worker": f"-P solo -n {tmp_path.name} -Q {tmp_path.name}",
        }
        line = f"exec env {commands()[kind]} {extra.get(kind, '')}"
        env = {"LOG_JSON": "0", "DATABASE_DIRECT_URL": "", **env}
        return Process(kind, ["sh", "-c", line], log=tmp_path / f"{kind}.log", env=env)

    return process


def assert_refused(refused: Process, reason: str) -> None:
    with refused:
        wait_until(lambda: not refused.running, seconds=60, what="the end")
        lines = [line for line in refused.output.splitlines() if "critical" in line]
        code = refused.returncode
    assert code == role.EXIT_CODE
    [line] = lines
    assert reason in line
    assert "Traceback" not in refused.log.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_transaction_mode_without_a_direct_url_is_refused(process: Callable[..., Process], kind: str) -> None:
    with pgbouncer("transaction") as pooler:
        assert_refused(process(kind, DATABASE_URL=pooler.url), NO_DIRECT_URL)


def test_a_direct_url_that_leads_to_transaction_mode_is_refused(process: Callable[..., Process]) -> None:
    with pgbouncer("transaction") as pooler:
        refused = process("relay", DATABASE_URL=pooler.url, DATABASE_DIRECT_URL=pooler.url)
        assert_refused(refused, DIRECT_URL_IS_POOLED)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_the_pooler_reconnects_when_the_user_of_its_console_says_so(mode: str) -> None:
    with pgbouncer(mode) as pooler:
        first = session_of(pooler.url)
        assert session_of(pooler.url) == first

        with psycopg.connect(pooler.console_url, autocommit=True, cursor_factory=psycopg.ClientCursor) as console:
            console.execute("RECONNECT")

        assert session_of(pooler.url) != first


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_DIRECT_URL"])
def test_statement_mode_is_refused(process: Callable[..., Process], name: str) -> None:
    urls = dict.fromkeys(("DATABASE_URL", "DATABASE_DIRECT_URL"), os.environ["DATABASE_URL"])
    with pgbouncer("statement") as pooler:
        refused = process("relay", **{**urls, name: pooler.url})
        assert_refused(refused, f"{name} leads to a pooler in statement mode, which allows no transactions.")


@pytest.mark.parametrize(
    ("mode", "direct"), [("transaction", ""), ("transaction", "itself"), ("statement", "past"), ("statement", "")]
)
def test_the_release_step_refuses_them_too(mode: str, direct: str) -> None:
    with pgbouncer(mode) as pooler:
        urls = {"": "", "itself": pooler.url, "past": os.environ["DATABASE_URL"]}
        done = release(DATABASE_URL=pooler.url, DATABASE_DIRECT_URL=urls[direct])
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("CommandError: DATABASE_")]) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_the_release_step_makes_spares_past_the_pooler(mode: str) -> None:
    with pgbouncer(mode) as pooler:
        direct = os.environ["DATABASE_URL"] if mode == "transaction" else ""
        done = release(DATABASE_URL=pooler.url, DATABASE_DIRECT_URL=direct, SPARE_SCHEMAS="1")
    assert done.returncode == 0, done.stderr
    assert "1 spares were made" in done.stdout


def test_session_mode_needs_no_direct_url(process: Callable[..., Process]) -> None:
    with pgbouncer("session") as pooler, process("beat", DATABASE_URL=pooler.url) as beat:
        beat.wait_for("DATABASE_URL leads to a pooler in session mode; there is no DATABASE_DIRECT_URL.")
        beat.wait_for("beat: Starting")


def test_a_direct_url_may_lead_to_session_mode(process: Callable[..., Process]) -> None:
    with pgbouncer("transaction") as pooler, pgbouncer("session") as direct:
        urls = {"DATABASE_URL": pooler.url, "DATABASE_DIRECT_URL": direct.url}
        with process("beat", **urls) as beat:
            beat.wait_for("DATABASE_URL leads to a pooler in transaction mode; there is a DATABASE_DIRECT_URL.")
            beat.wait_for("beat: Starting")


def test_a_direct_url_that_does_not_answer_stops_nobody_who_needs_none(process: Callable[..., Process]) -> None:
    with pgbouncer("transaction") as pooler:
        away = urlsplit(os.environ["DATABASE_URL"])._replace(netloc=f"nobody:x@127.0.0.1:{free_port()}").geturl()
        with process("beat", DATABASE_URL=pooler.url, DATABASE_DIRECT_URL=away) as beat:
            beat.wait_for("DATABASE_DIRECT_URL does not answer: ")
            beat.wait_for("beat: Starting")


def test_without_a_pooler_nothing_is_said(process: Callable[..., Process]) -> None:
    with process("beat") as beat:
        beat.wait_for("beat: Starting")
        assert "pooler" not in beat.output


def release(**environ: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "manage.py", "migrate_tenants"]
    return subprocess.run(argv, cwd=CHECKOUT, env={**os.environ, **environ}, capture_output=True, text=True)


def session_of(url: str) -> Any:
    """The backend that the pooler gives a client."""
    with psycopg.connect(url) as session:
        [backend] = session.execute("SELECT pg_backend_pid()").fetchall()
    return backend
