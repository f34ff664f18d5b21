"""The product's probes, as one would write them for Celery: what belongs together is in one transaction."""

import os
import signal
import time
from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection, transaction

from tests.chaos.saboteur.points import point
from tests.peers.shop.tasks import DATABASE_ERRORS, RETRIES

LEAVE_EFFECT = """
    INSERT INTO chaos_effect (job, home, early, at)
    SELECT %(job)s, %(home)s,
        coalesce((SELECT due > clock_timestamp() FROM public.chaos_job WHERE id = %(job)s), false), clock_timestamp()
"""
OPTIONS: dict[str, Any] = {"bind": True, "autoretry_for": DATABASE_ERRORS, **RETRIES}


def leave_effect(task: Any, home: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(LEAVE_EFFECT, {"job": task.request.id, "home": home})


@shared_task(**OPTIONS)
def effect(self: Any, home: str, seconds: float = 0) -> None:
    with transaction.atomic():
        leave_effect(self, home)
        time.sleep(seconds)
        point("in-body")
        point("before-complete")
        point("atomic-before-complete")
        point("atomic-before-commit")


@shared_task(**OPTIONS)
def call(self: Any, home: str, seconds: float = 0) -> None:
    """As a task that calls the outside world."""
    point("before-call")
    time.sleep(seconds)
    point("after-call")
    with transaction.atomic():
        leave_effect(self, home)
        point("before-complete")
        point("open-before-commit")


@shared_task(**OPTIONS)
def flaky(self: Any, home: str, fails: int = 2) -> None:
    with transaction.atomic():
        leave_effect(self, home)
        if self.request.retries < fails:
            self.retry(countdown=0.3)


@shared_task(**{**OPTIONS, "max_retries": 3})
def kills(self: Any, home: str) -> None:
    with transaction.atomic():
        leave_effect(self, home)
        os.kill(os.getpid(), signal.SIGKILL)


@shared_task(**OPTIONS)
def hogs(self: Any, home: str) -> None:
    """Deaf to the soft limit."""
    with transaction.atomic():
        leave_effect(self, home)
        _hog()


@shared_task(**OPTIONS)
def hogs_outside(self: Any, home: str) -> None:
    _hog()


def _hog() -> None:
    while True:
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            continue
