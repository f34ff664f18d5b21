"""`make` and `python -m devstack`, as a person or a supervisor uses them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from devstack import CHECKOUT
from devstack.ports import free_port
from devstack.processes import wait_until

ENVIRON = {**os.environ, "DATABASE_URL": "", "REDIS_URL": ""}


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `devstack test` in the midst of its program, which has written its environment to `env`."""
    script = f"env > '{tmp_path}/new'; mv '{tmp_path}/new' '{tmp_path}/env'; exec sleep 1000"
    argv = [sys.executable, "-m", "devstack", "test", "--", "sh", "-c", script]
    with subprocess.Popen(argv, cwd=CHECKOUT, env=ENVIRON, start_new_session=True) as process:
        wait_until((tmp_path / "env").exists, seconds=30, what="program started")
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_its_group_ends_its_servers_and_removes_their_data(
    command: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    folder = Path(env["TENANTRY_CARD_LOG"]).parent
    assert folder.exists()
    os.killpg(command.pid, number)
    wait_until(lambda: not folder.exists(), seconds=60, what="data removed")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(env["DATABASE_URL"])


def test_the_programs_exit_code_is_the_commands() -> None:
    argv = [sys.executable, "-m", "devstack", "test", "--", "sh", "-c", "exit 7"]
    assert subprocess.run(argv, cwd=CHECKOUT, env=ENVIRON).returncode == 7


@pytest.mark.parametrize(("port", "complaint"), [("many", "PORT is 'many', not a number"), ("{taken}", "is taken")])
def test_run_says_in_one_line_what_is_wrong_with_the_port(checkout: Path, port: str, complaint: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        env = {**ENVIRON, "PORT": port.format(taken=other.getsockname()[1])}
        argv = [sys.executable, "-m", "devstack", "run"]
        done = subprocess.run(argv, cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_make_lists_its_targets_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(["make", "-C", str(CHECKOUT)], cwd=tmp_path, capture_output=True, text=True, check=True)
    for target in ("run", "test", "lint", "shell", "clean"):
        assert f"\nmake {target} " in done.stdout
