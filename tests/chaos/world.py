"""What scenarios act on: servers behind proxies, tenants, and the Procfile's processes. Made once for all of them."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import httpx

from devstack import CHECKOUT, DevstackError, application
from devstack.ports import free_port
from devstack.processes import Process, tool_path, wait_until
from devstack.procfile import commands
from devstack.servers import Stack, temporary_stack
from tests.chaos.commands import Commands
from tests.chaos.pace import Pace
from tests.chaos.proxy import Mode, Proxy
from tests.chaos.tenants import Tenant, sign_up, tables_of
from tests.chaos.view import View

SLUGS = ("acme", "globex", "initech", "hooli", "umbrella")
ROOMY = {"JOB_SOFT_TIME_LIMIT": "50", "JOB_HARD_TIME_LIMIT": "60"}
STOP_SECONDS = 30
TERMINATE_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()
"""
NO_DATA = shutil.ignore_patterns("postgres", "valkey", "rabbitmq")


class World:
    usual: tuple[str, ...] = ("web", "worker", "relay", "beat")
    # What was taken from the queue may not have entered its job yet.
    linger = 0.2

    def __init__(self, stack: Stack, folder: Path, pace: Pace, *, broker_port: int | None = None) -> None:
        assert stack.postgres
        assert stack.valkey
        self.postgres, self.valkey, self.stack = stack.postgres, stack.valkey, stack
        self.folder, self.pace = folder, pace
        self.commands = Commands(folder / "commands")
        self.database = Proxy(self.postgres.port)
        self.broker = Proxy(broker_port or self.valkey.port)
        self.port = free_port()
        self.processes: dict[str, Process] = {}
        self.tenants: dict[str, Tenant] = {}
        self._sabotage: dict[str, str] = {}
        self._view = View(self.postgres.url(), self.valkey.url)
        self.sql, self.push = self._view.sql, self._view.push
        self.tell_valkey = self._view.tell_valkey
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            exits.callback(self._view.close)
            exits.enter_context(self.database)
            exits.enter_context(self.broker)
            exits.callback(self.stop)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    # The product

    def env(self) -> dict[str, str]:
        return {
            **self.servers(),
            **self.pace.environment(),
            "REDIS_KEY_PREFIX": "",
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS_FOLDER": str(self.commands.folder),
            "SECRET_KEY": "chaos",
            "DEBUG": "1",
            "LOG_JSON": "0",
            "PORT": str(self.port),
            "PYTHONPATH": str(CHECKOUT),
        }

    def servers(self) -> dict[str, str]:
        given = self.stack.env
        return {
            **given,
            "DATABASE_URL": through(self.database, given["DATABASE_URL"]),
            "REDIS_URL": through(self.broker, given["REDIS_URL"]),
            "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{self.port} --threads=4 --workers=1 --graceful-timeout=5",
        }

    def lines(self) -> dict[str, str]:
        """How to start each type of process."""
        return commands()

    def found(self, *, spares: int) -> None:
        """Migrate, and sign tenants up over HTTP: those of every scenario, and `spares` that a scenario may delete."""
        env = {**os.environ, **self.env(), "PATH": tool_path()}
        application.release({**env, **ROOMY})
        self.start("web", "worker", "relay", **ROOMY)
        self.tenants = sign_up(self, [*SLUGS, *(f"spare-{number}" for number in range(spares))])
        self.halt("worker")
        application.write_role_defaults(env)

    def process(self, name: str, **environ: str) -> Process:
        """`name` is a type of the Procfile's, perhaps with a number: `worker-2`."""
        kind = name.partition("-")[0]
        extra = {"worker": f"-c 2 -n {name}@chaos", "beat": f"-s {self.folder / 'beat'}"}.get(kind, "")
        command = ["sh", "-c", f"exec env {self.lines()[kind]} {extra}"]
        log = self.folder / f"{name}.log"
        env = {**self.env(), **self._sabotage, **environ}
        return Process(name, command, log=log, env=env)

    def start(self, *names: str, **environ: str) -> None:
        """All at once; returns when all are ready."""
        for name in names:
            self.processes[name] = self.process(name, **environ).start()
        for name in names:
            wait_until(lambda name=name: self._is_ready(name), seconds=60, what=f"{name} ready")  # type: ignore[misc]

    def _is_ready(self, name: str) -> bool:
        process = self.processes[name]
        assert process.running, f"{name} ended: {process.output[-2000:]}"
        match name.partition("-")[0]:
            case "web":
                return self._is_live()
            case "worker":
                return " ready." in process.output
            case "relay":
                return bool(self.sql("SELECT FROM jobs_relaypulse WHERE name LIKE %s", [f"%:{process.pid}"]))
        return True

    def _is_live(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self.port}/livez", trust_env=False).is_success
        return False

    def kill(self, name: str) -> None:
        """-9, to every process of its group."""
        self.processes.pop(name).kill()

    def signal_all(self, number: signal.Signals, *names: str) -> None:
        """To every process of their groups, as it comes to a whole container."""
        for name in names:
            os.killpg(self.processes[name].pid, number)

    def empty_broker(self) -> None:
        """Kill it; what comes back knows nothing."""
        self.valkey.kill()
        for file in (self.folder / "valkey").iterdir():
            if file.is_dir():
                shutil.rmtree(file)
            elif file.suffix in (".rdb", ".aof"):
                file.unlink()
        self.valkey.start()

    def take_spare(self) -> Tenant:
        """A tenant that no other scenario needs."""
        return self.tenants.pop(next(slug for slug in self.tenants if slug not in SLUGS))

    def halt(self, *names: str, every_process: bool = False) -> list[str]:
        """As a deploy does: SIGTERM to all of them, and patience. To `every_process` of theirs, as Heroku does.

        Those that did not end by themselves.
        """
        for name in names:
            process = self.processes[name]
            if every_process:
                os.killpg(process.pid, signal.SIGTERM)
            else:
                process.signal(signal.SIGTERM)
        with contextlib.suppress(DevstackError):
            wait_until(lambda: not self._running(*names), seconds=STOP_SECONDS, what="end")
        stubborn = self._running(*names)
        for name in names:
            self.kill(name)
        return stubborn

    def _running(self, *names: str) -> list[str]:
        return [name for name in names if self.processes[name].running]

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
        self.processes.clear()

    # Between scenarios

    def sabotage(self, **environ: str) -> None:
        """Environment of all processes from now on; they are started anew."""
        if environ != self._sabotage:
            self._sabotage = environ
            self.stop()

    def tidy(self) -> None:
        """Everything runs, in its usual numbers, and nothing is left of the last scenario."""
        self.commands.clear()
        for name in [name for name in self.processes if name not in self.usual]:
            self.kill(name)
        self._empty()
        self.heal()

    def heal(self) -> None:
        """No fault is on any more, and what was killed runs again."""
        self.database.trap = None
        self.database.turn(Mode.PASS)
        self.broker.turn(Mode.PASS)
        for name in [name for name, process in self.processes.items() if not process.running]:
            self.kill(name)
        self.start(*(name for name in self.usual if name not in self.processes))

    def _empty(self) -> None:
        self.empty_queues()
        self.sql("UPDATE tenants_tenant SET status = 'active' WHERE status = 'suspended'")
        self.sql(f"TRUNCATE {', '.join(tables_of(self))} CASCADE")

    def clear_away(self, name: str) -> None:
        """After a scenario that failed: who holds something lets go of it. LOGS names a folder to keep logs in."""
        self.stop()
        if logs := os.environ.get("LOGS"):
            shutil.copytree(self.folder, Path(logs) / name, ignore=NO_DATA, dirs_exist_ok=True)
        self.sql(TERMINATE_OTHERS)

    def empty_queues(self) -> None:
        self._view.empty_queues()

    # What the driver sees

    def queued(self) -> int:
        return self._view.queued()

    def is_at_work(self) -> bool:
        """Whether some worker holds a lease."""
        return bool(self.sql("SELECT FROM jobs_job WHERE token IS NOT NULL LIMIT 1"))

    def is_quiet(self) -> bool:
        """No job is under way, and nobody is at work on one."""
        if self._is_busy():
            return False
        time.sleep(self.linger)
        return not self._is_busy()

    def _is_busy(self) -> bool:
        waiting = self.sql("SELECT FROM jobs_job WHERE state = 'waiting' LIMIT 1")
        return bool(waiting) or self.queued() > 0 or self.commands.at_work()


def through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}"))


@contextmanager
def new_world(pace: Pace, *, spares: int = 1) -> Iterator[World]:
    """On embedded servers, whatever DATABASE_URL and REDIS_URL say."""
    with temporary_stack() as stack, World(stack, stack.mail.calls.parent, pace) as world:
        world.found(spares=spares)
        yield world
