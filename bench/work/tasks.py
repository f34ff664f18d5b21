"""The tasks: the same code for everybody."""

import time

from celery import shared_task
from django.db import connection

from bench.work import bodies


@shared_task(ignore_result=True)
def look(home: str) -> None:
    bodies.look(home)


@shared_task
def look_and_tell(home: str) -> str:
    """With a result."""
    bodies.look(home)
    return home


@shared_task
def take_time(home: str, seconds: float = 0) -> float:
    """When the body began, in seconds of the epoch."""
    began = time.time()
    bodies.look(home)
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
    bodies.note_start()


@shared_task(ignore_result=True)
def record(home: str, number: int) -> None:
    bodies.record(number)


@shared_task(ignore_result=True)
def count() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('public.work_count')")
