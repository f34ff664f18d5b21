"""The tasks: the same code for everybody."""

import time

from celery import shared_task
from django.db import connection

# One SELECT, that counts itself where it finds the row that only this home has.
LOOK = "SELECT nextval('public.work_count') FROM work_row WHERE home = %s"


def _look(home: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(LOOK, [home])
        cursor.fetchone()


@shared_task(ignore_result=True)
def look(home: str) -> None:
    _look(home)


@shared_task
def look_and_tell(home: str) -> str:
    """With a result."""
    _look(home)
    return home


@shared_task
def take_time(home: str, seconds: float = 0) -> float:
    """When the body began, in seconds of the epoch."""
    began = time.time()
    _look(home)
    time.sleep(seconds)
    return began


@shared_task(ignore_result=True)
def hang_once() -> None:
    """Hangs in its first run, which counts itself as every run does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('public.work_count')")
        [runs] = cursor.fetchone()
    if runs == 1:
        time.sleep(3600)


@shared_task(ignore_result=True)
def note_start() -> None:
    """When the body began, in seconds of the epoch, as a row."""
    began = time.time()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO work_note (text) VALUES (%s)", [str(began)])


@shared_task(ignore_result=True)
def count() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('public.work_count')")
