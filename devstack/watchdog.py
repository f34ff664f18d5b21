"""Kills what a process started once that process is gone, `kill -9` included.

The watchdog runs in a session of its own and reads a named pipe that the process holds open for writing: end of file
means that it died. Whoever is to be killed then writes its own line, `+<pid> <signal>`, before it runs anything else,
so that no moment is unguarded. The pipe has a name because a process manager (honcho) closes inherited descriptors.
"""

import atexit
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

GRACE_SECONDS = 5.0
LATECOMER_SECONDS = 0.5


class Watchdog:
    """Guards process groups, each named by its leader's pid, and a folder for temporary data."""

    def __init__(self) -> None:
        self.folder = _make_folder()
        self.pipe = self.folder / "pipe"
        os.mkfifo(self.pipe, 0o600)
        reader = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._writer = os.open(self.pipe, os.O_WRONLY)
        os.set_blocking(reader, True)
        command = [sys.executable, "-m", "devstack.watchdog", str(self.pipe)]
        root = Path(__file__).resolve().parent.parent
        self._process = subprocess.Popen(command, stdin=reader, cwd=root, start_new_session=True)
        os.close(reader)
        atexit.register(self.close)

    def enrol(self, pid: int, stop_signal: signal.Signals) -> None:
        """Safe between fork and exec."""
        os.write(self._writer, b"+%d %d\n" % (pid, stop_signal))

    def dismiss(self, pid: int) -> None:
        os.write(self._writer, b"-%d\n" % pid)

    def close(self) -> None:
        """Lets the watchdog kill whoever is still enrolled, and waits for it."""
        if self._process.returncode is None:
            os.close(self._writer)
            self._process.wait()


@cache
def watchdog() -> Watchdog:
    """This process's one watchdog, started at first use."""
    return Watchdog()


def _make_folder() -> Path:
    """For root where other accounts may pass through it, since PostgreSQL runs as one."""
    root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="tenantry-", dir="/var/tmp" if root else None))
    if root:
        folder.chmod(0o711)
    return folder


def enrolling(command: str, pipe: Path) -> str:
    """The shell command, enrolled before it starts by the shell that runs it as a session leader."""
    return f'echo "+$$ {signal.SIGTERM.value}" > {shlex.quote(str(pipe))} || exit 1; {command}'


def main(pipe: Path) -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    enrolled: dict[int, int] = {}
    pending = _read(enrolled, b"")
    # Who comes from now on finds no pipe; who has it open already is heard by _kill_all.
    pipe.unlink()
    _kill_all(enrolled, pending)
    shutil.rmtree(pipe.parent, ignore_errors=True)


def _kill_all(enrolled: dict[int, int], pending: bytes) -> None:
    """Asks first, and kills those that are still there after the grace."""
    started = time.monotonic()
    asked: set[int] = set()
    while (elapsed := time.monotonic() - started) < LATECOMER_SECONDS or any(map(_alive, enrolled)):
        pending = _read(enrolled, pending)
        for group in enrolled.keys() - asked:
            _send(group, enrolled[group])
            asked.add(group)
        if elapsed > GRACE_SECONDS:
            for group in enrolled:
                _send(group, signal.SIGKILL)
            return
        time.sleep(0.02)


def _read(enrolled: dict[int, int], pending: bytes) -> bytes:
    """Reads lines until nobody has the pipe open for writing; returns a line's beginning, if one is left over."""
    while chunk := os.read(0, 4096):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"+"):
                pid, stop_signal = map(int, line[1:].split())
                enrolled[pid] = stop_signal
            else:
                enrolled.pop(int(line[1:]), None)
    return pending


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
