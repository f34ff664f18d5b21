"""What its driver does for figures, as `bench.work.calls` has it; it pushes in the caller's transaction."""

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction
from psycopg.rows import dict_row

from bench.work import bodies
from tests.peers.chancy import tasks
from tests.peers.chancy.worker import chancy_app


def fill(task: str, homes: Sequence[str], arguments: Sequence[Sequence[Any]]) -> None:
    job = getattr(tasks, task).job
    for home in homes:
        with transaction.atomic():
            _push([job.with_kwargs(**dict(zip(("home", "number"), [home, *each], strict=False))) for each in arguments])


def waits(homes: Sequence[str], pauses: Sequence[float]) -> list[float]:
    return [bodies.wait(lambda: _push([tasks.note_start.job]), pause=pause) for pause in pauses]


def _push(jobs: Sequence[Any]) -> None:
    connection.ensure_connection()
    with connection.connection.cursor(row_factory=dict_row) as cursor:
        chancy_app.sync_push_many_ex(cursor, jobs)
