"""Tasks that leave everything behind, and tasks that look for it, for real workers; told through Redis."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery import shared_task
from django.contrib.auth.models import Group
from django.db import DatabaseError, transaction

from jobs.task import TenantTask
from tests.jobs.durables import sql
from tests.jobs.probes import note
from tests.leftovers import TRANSACTIONS, leave_everything, what_is_found

#: How many tasks are in their bodies at the same time, where a test wants that.
AT_ONCE = 4
_all_here = threading.Barrier(AT_ONCE)


def _raise(error: Exception) -> None:
    raise error


def _swallow_an_error() -> None:
    with suppress(DatabaseError):
        sql("SELECT 1 / 0")


# How a body ends.
ENDINGS: dict[str, Callable[[TenantTask], Any]] = {
    "success": lambda task: None,
    "exception": lambda task: _raise(ValueError("as asked")),
    "soft limit": lambda task: sql("SELECT pg_sleep(60)"),
    "retry": lambda task: task.retry(countdown=0),
    "swallowed error": lambda task: _swallow_an_error(),
    "all at once": lambda task: _all_here.wait(timeout=20),
}


def _leave(task: TenantTask, name: str, what: str, ending: str) -> None:
    note(name, found=what_is_found())
    if task.request.retries == 0:
        if what == "everything":
            note(f"{name} left", left=leave_everything())
        else:
            TRANSACTIONS[what]()
        ENDINGS[ending](task)


def _look(name: str, *, roll_back: bool = False, keep: str = "", fail: bool = False) -> None:
    if roll_back:
        with transaction.atomic():
            sql("SELECT 1")
            transaction.set_rollback(True)
    note(name, found=what_is_found())
    if keep:
        Group.objects.create(name=keep)
    if fail:
        raise ValueError("as asked")


@shared_task(bind=True, max_retries=1)
def leaves(self: TenantTask, name: str, what: str, ending: str) -> None:
    _leave(self, name, what, ending)


@shared_task(bind=True, max_retries=1, atomic=False)
def leaves_outside(self: TenantTask, name: str, what: str, ending: str) -> None:
    _leave(self, name, what, ending)


@shared_task(bind=True, max_retries=1)
def sweeps(self: TenantTask, name: str, what: str, ending: str) -> None:
    """As a periodic task does, in `public`."""
    if self.request.retries == 0:
        looks.for_each_tenant_on_commit("sweeper's job")
    _leave(self, name, what, ending)


@shared_task
def looks(name: str, **how: Any) -> None:
    _look(name, **how)


@shared_task(atomic=False)
def looks_outside(name: str, **how: Any) -> None:
    _look(name, **how)


@shared_task
def looks_with_all(name: str) -> None:
    """While others look."""
    _all_here.wait(timeout=20)
    _look(name)
