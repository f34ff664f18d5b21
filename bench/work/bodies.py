"""What the work does, whoever runs it: without Celery, which not every peer has."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection, transaction

# One SELECT, that counts itself where it finds the row that only this home has.
LOOK = "SELECT nextval('public.work_count') FROM work_row WHERE home = %s"
NOTE = "INSERT INTO work_note (text) VALUES (%s)"
LOOK_SECONDS = 0.01


def look(home: str) -> None:
    execute(LOOK, [home])


def note(text: object) -> None:
    execute(NOTE, [str(text)])


def note_start() -> None:
    """When the body began, in seconds of the epoch."""
    note(time.time())


def record(number: int) -> None:
    """One INSERT: what is done, and when, in seconds of the epoch."""
    note(f"{number} {time.time()}")


def wait(dispatch: Callable[[], object], *, pause: float, after_commit: bool = False) -> float:
    """Seconds from the return of COMMIT to the start of a body that is `note_start`."""
    time.sleep(pause)
    with transaction.atomic():
        execute("DELETE FROM work_note")
        if not after_commit:
            dispatch()
    committed = time.time()
    if after_commit:
        dispatch()
    while not (noted := execute("SELECT text FROM work_note")):
        time.sleep(LOOK_SECONDS)
    [(began,)] = noted
    return float(began) - committed


def execute(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description is not None else []
