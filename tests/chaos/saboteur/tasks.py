"""Jobs to count. Each commits one effect: a row in `chaos_effect` of whatever schema it runs in."""

import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django_tenants.utils import schema_context

from tenants.binding import Unbound
from tenants.connection import connection
from tests.chaos.saboteur.points import point

# `early` is judged by the row's own due time, which a retry moves, and by the database's clock.
LEAVE_EFFECT = """
    INSERT INTO chaos_effect (job, home, early, at)
    SELECT %(job)s, %(home)s,
        coalesce((SELECT due_at > clock_timestamp() FROM public.jobs_job WHERE id = %(job)s), false), clock_timestamp()
"""


def leave_effect(task: Any, home: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(LEAVE_EFFECT, {"job": task.request.id, "home": home})


@shared_task(bind=True)
def effect(self: Any, home: str, seconds: float = 0) -> None:
    leave_effect(self, home)
    time.sleep(seconds)
    point("in-body")


@shared_task(bind=True)
def locks(self: Any, home: str) -> None:
    """Takes a lock that every other run of it needs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM public.tenants_tenant WHERE schema_name = %s FOR NO KEY UPDATE", [home])
    leave_effect(self, home)
    point("in-body")


@shared_task(bind=True, atomic=False)
def call(self: Any, home: str, seconds: float = 0) -> None:
    """As a task that calls the outside world."""
    point("before-call")
    time.sleep(seconds)
    point("after-call")
    with self.completion():
        leave_effect(self, home)


@shared_task(bind=True, max_retries=3)
def flaky(self: Any, home: str, fails: int = 2) -> None:
    leave_effect(self, home)
    if self.request.retries < fails:
        self.retry(countdown=0.3)


@shared_task(bind=True)
def stages(self: Any, home: str) -> None:
    """As a body that merges what it has staged, and leaves the staging table behind."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS staging (LIKE chaos_effect)")
        cursor.execute(LEAVE_EFFECT.replace("chaos_effect", "staging"), {"job": self.request.id, "home": home})
        cursor.execute("INSERT INTO chaos_effect SELECT * FROM staging")


@shared_task(bind=True)
def wanders(self: Any, home: str) -> None:
    """Ends at home, by a way on which the session's search path is rolled back to another one."""
    with schema_context("public"), connection.cursor() as cursor:
        cursor.execute("SAVEPOINT here")
        with schema_context(home):
            cursor.execute("SELECT 1")
            cursor.execute("ROLLBACK TO SAVEPOINT here")
            leave_effect(self, home)


@shared_task(bind=True)
def spins_off(self: Any, home: str) -> None:
    """Lets a thread do the work, which nobody told for whom; and does it itself when that fails."""
    done: list[bool] = []

    def work() -> None:
        with suppress(Unbound):
            cursor = connection.cursor()
            cursor.execute(LEAVE_EFFECT, {"job": job, "home": home})
            done.append(True)

    job = self.request.id
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if not done:
        leave_effect(self, home)


@shared_task(bind=True)
def kills(self: Any, home: str) -> None:
    leave_effect(self, home)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(bind=True)
def hogs(self: Any, home: str) -> None:
    """Deaf to the soft limit."""
    leave_effect(self, home)
    _hog()


@shared_task(bind=True, atomic=False)
def hogs_outside(self: Any, home: str) -> None:
    _hog()


def _hog() -> None:
    while True:
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            continue
