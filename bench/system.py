"""What is measured: somebody's processes on a database of their own, asleep unless it is their turn."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis

from bench.database import Database
from bench.driver import Driver
from devstack import DevstackError
from devstack.processes import Process, wait_until

QUEUES = ("celery", "jobs", "unacked", "unacked_index", "unacked_mutex")
RESULTS = "django_celery_results_taskresult"
# What jobs leave behind.
EMPTIED = ("jobs_job", RESULTS, "work_note")
PULSE = "SELECT FROM public.jobs_relaypulse WHERE name LIKE %s"

RECORDS = """
    SELECT COALESCE(sum(rows), 0)::int, count(*), COALESCE(max(first), 0)
    FROM (
        SELECT count(*) AS rows, min(split_part(text, ' ', 2)::float) AS first
        FROM ({union}) AS each GROUP BY home, split_part(text, ' ', 1)
    ) AS each
"""


class Records(NamedTuple):
    """The rows that the task `record` has written, how many are different, and when the last of these began."""

    rows: int
    different: int
    last: float


class System:
    """`lines` are its processes, as a Procfile has them, `homes` the schemas of its work."""

    def __init__(
        self,
        name: str,
        database: Database,
        env: Mapping[str, str],
        lines: Mapping[str, str],
        *,
        homes: Sequence[str],
        folder: Path,
        calls: str = "bench.work.calls",
    ) -> None:
        self.name = name
        self.database = database
        self.homes = list(homes)
        self.port = int(env["PORT"])
        self.redis = redis.Redis.from_url(env["REDIS_URL"])
        self.processes = {
            kind: Process(f"{name}'s {kind}", _command(line), log=folder / f"{name}-{kind}.log", env=env)
            for kind, line in lines.items()
        }
        self.driver: Driver
        self._start_driver = partial(Driver, calls, env=env, log=folder / f"{name}-driver.log")
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            exits.callback(self.redis.close)
            self.redis.flushdb()
            for process in self.processes.values():
                exits.callback(process.kill)
                process.start()
            self.driver = exits.enter_context(self._start_driver())
            wait_until(lambda: all(map(self._is_ready, self.processes)), seconds=90, what=f"{self.name} ready")
            self.sleep()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def _is_ready(self, kind: str) -> bool:
        if kind == "relay":
            return bool(self.database.sql(PULSE, [f"%:{self.processes[kind].pid}"]))
        return self._says(kind, "Listening at: " if kind == "web" else " ready.")

    def _says(self, kind: str, text: str) -> bool:
        process = self.processes[kind]
        if not process.running:
            raise DevstackError(f"{process.name} ended:\n{process.output[-2000:]}")
        return text in process.output

    # Taking turns

    def wake(self, *kinds: str) -> None:
        self._signal(signal.SIGCONT, kinds)

    def sleep(self, *kinds: str) -> None:
        self._signal(signal.SIGSTOP, kinds)

    def _signal(self, number: signal.Signals, kinds: Sequence[str]) -> None:
        for kind in kinds or self.processes:
            os.killpg(self.processes[kind].pid, number)

    @contextmanager
    def awake(self, *kinds: str) -> Iterator[None]:
        """Some of its processes, or all."""
        self.wake(*kinds)
        try:
            yield
        finally:
            self.sleep(*kinds)

    # Its data

    def call(self, name: str, **arguments: Any) -> Any:
        return self.driver.call(name, **arguments)

    def empty(self) -> None:
        """No message, no row and no count is left of what was measured before."""
        self.redis.delete(*QUEUES)
        self.database.empty(*EMPTIED)
        self.database.reset_count()

    def forget(self) -> None:
        """Nobody begins the jobs that nobody has begun."""
        self.database.sql("DELETE FROM public.jobs_job WHERE token IS NULL")

    def is_idle(self) -> bool:
        """No message, no row waits; nobody is at work."""
        return not any(self.redis.exists(name) for name in QUEUES[:3]) and not self._waiting()

    def left(self) -> int:
        """How many jobs have not ended."""
        return int(self.database.sql("SELECT count(*) FROM public.jobs_job")[0][0])

    def check_dispatched(self, times: int) -> None:
        """So many jobs or messages wait, and nobody has run any."""
        rows = self.database.sql("SELECT count(*) FROM public.jobs_job")[0][0] if "jobs_job" in self._tables else 0
        waiting = rows or self.redis.llen("celery")
        # One message may have been handed to a worker before that fell asleep.
        if waiting not in (times - 1, times):
            raise DevstackError(f"{self.name}: {waiting} were dispatched, where {times} should be")

    def _waiting(self) -> bool:
        return "jobs_job" in self._tables and bool(self.database.sql("SELECT FROM public.jobs_job LIMIT 1"))

    def check(self, bodies: int, *, results: int, homes: Sequence[str] = ()) -> None:
        """So many bodies ran, at home, and left so many results. Raises DevstackError."""
        found = (self.database.count(), self.results(homes))
        if found != (bodies, results):
            raise DevstackError(f"{self.name}: {found} bodies and results, where {(bodies, results)} should be")

    def results(self, homes: Sequence[str] = ()) -> int:
        """How many tasks and jobs of these tenants, or all, have succeeded."""
        if RESULTS not in self._tables:
            return 0
        tables = (f'"{home}".{RESULTS}' for home in homes or self.homes)
        union = " UNION ALL ".join(f"SELECT FROM {table} WHERE status = 'SUCCESS'" for table in tables)
        return int(self.database.sql(f"SELECT count(*) FROM ({union}) AS each")[0][0])

    def records(self) -> "Records":
        union = " UNION ALL ".join(f"SELECT '{home}' AS home, text FROM \"{home}\".work_note" for home in self.homes)
        [found] = self.database.sql(RECORDS.format(union=union))
        return Records(*found)

    @cached_property
    def _tables(self) -> set[str]:
        return {name for (name,) in self.database.sql("SELECT DISTINCT tablename::text FROM pg_tables")}


def _command(line: str) -> list[str]:
    """Without a shell in between, that signals would reach in its place; `env` lets assignments come first."""
    return ["sh", "-c", f"exec env {line}"]
