"""Peers that keep their jobs in PostgreSQL: how each is set up, and how its jobs are counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.system import System
from tests.peers.peer import CHANCY, DJANGO_TASKS_DB, PROCRASTINATE, Peer

COUNTS = "SELECT count(*) FILTER (WHERE {state} = '{done}'), count(*) FILTER (WHERE {state} <> '{done}') FROM {rows}"


@dataclass(frozen=True)
class PostgresqlPeer:
    """`set_up` are commands of Python's, `worker` is one that `says` so when it has started.

    `counts` selects how many jobs have succeeded, and how many have not; `forget` deletes those that wait.
    """

    peer: Peer
    set_up: Sequence[str]
    worker: str
    says: str
    counts: str
    forget: str
    empty: str
    # Where it is not, a worker runs one job at a time, and there are as many workers.
    pool: bool = False


PEERS = (
    PostgresqlPeer(
        PROCRASTINATE,
        set_up=["-m django migrate"],
        worker="python -m django procrastinate worker",
        says="Starting worker on",
        counts=COUNTS.format(
            state="status", done="succeeded", rows="procrastinate_jobs WHERE task_name NOT LIKE '%retry_stalled_jobs'"
        ),
        forget="DELETE FROM procrastinate_jobs WHERE status = 'todo'",
        empty="TRUNCATE procrastinate_jobs CASCADE",
    ),
    PostgresqlPeer(
        DJANGO_TASKS_DB,
        set_up=["-m django migrate"],
        worker="python -m django db_worker",
        says="Starting worker worker_id",
        counts=COUNTS.format(state="status", done="SUCCESSFUL", rows="django_tasks_database_dbtaskresult"),
        forget="DELETE FROM django_tasks_database_dbtaskresult WHERE status = 'READY'",
        empty="TRUNCATE django_tasks_database_dbtaskresult",
    ),
    PostgresqlPeer(
        CHANCY,
        set_up=[
            "-m django migrate",
            "-m chancy.cli.cli --app tests.peers.chancy.worker.chancy_app misc migrate",
            "-m tests.peers.chancy.declare {at_a_time} {polling}",
        ],
        worker="chancy --app tests.peers.chancy.worker.chancy_app worker start",
        says="Adding queue 'default'",
        counts=COUNTS.format(state="state", done="succeeded", rows="chancy_jobs"),
        forget="DELETE FROM chancy_jobs WHERE state = 'pending'",
        empty="TRUNCATE chancy_jobs",
        pool=True,
    ),
)


class PostgresqlSystem(System):
    def __init__(self, like: PostgresqlPeer, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._like = like

    def _is_ready(self, kind: str) -> bool:
        return self._says(kind, self._like.says)

    def empty(self) -> None:
        # One that fell asleep inside a transaction would hold its locks for good.
        with self.awake():
            # Not before it has run anything: procrastinate may be writing its first periodic job.
            if any(self._counts()):
                self.database.sql(self._like.empty)
            self.database.empty("work_note")
        self.database.reset_count()

    def forget(self) -> None:
        self.database.sql(self._like.forget)

    def is_idle(self) -> bool:
        return self.left() == 0

    def left(self) -> int:
        return self._counts()[1]

    def results(self, homes: Sequence[str] = ()) -> int:
        return self._counts()[0]

    def _counts(self) -> tuple[int, int]:
        [(done, left)] = self.database.sql(self._like.counts)
        return done, left
