"""With the kernel's parent death signal and without it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import CHECKOUT
from devstack.processes import is_running, wait_until

SUPERVISOR = """
import sys
from pathlib import Path
from honcho.manager import Manager
from devstack import processes
from devstack.watchdog import enrolling, watchdog

folder = Path(sys.argv[1])
if sys.argv[2] == "no death signal":
    processes.LIBC = None
script = "trap '' TERM; echo $$ > {}; sleep 1000 & echo $! > {}; wait; wait"
own = script.format("own.pid", "own-child.pid")
processes.Process("own", ["sh", "-c", own], log=folder / "log", cwd=folder).start()
foreign = script.format("foreign.pid", "foreign-child.pid")
manager = Manager()
manager.add_process("foreign", enrolling(foreign, watchdog().pipe), cwd=str(folder))
print(watchdog().pipe, flush=True)
manager.loop()
"""
NAMES = ["own.pid", "own-child.pid", "foreign.pid", "foreign-child.pid"]


@pytest.fixture
def supervisor(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path), request.param]
    with (
        open(tmp_path / "supervisor.log", "wb") as log,
        subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        files = [tmp_path / name for name in NAMES]
        wait_until(lambda: all(file.exists() and file.read_text() for file in files), seconds=20, what="all started")
        yield process
        process.kill()


@pytest.mark.parametrize("supervisor", ["death signal", "no death signal"], indirect=True)
def test_nothing_outlives_a_kill_9_of_the_group(supervisor: subprocess.Popen[bytes], tmp_path: Path) -> None:
    pids = [int((tmp_path / name).read_text()) for name in NAMES]
    pipe = Path((tmp_path / "supervisor.log").read_text().split("\n", 1)[0])
    assert all(map(is_running, pids))
    os.killpg(supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, pids)), seconds=30, what=f"{pids} gone")
    wait_until(lambda: not pipe.parent.exists(), seconds=30, what="the pipe gone")
