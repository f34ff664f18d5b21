"""What its driver does for figures, as `bench.work.calls` has it."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from bench.work import bodies
from tests.peers.django_tasks_db import tasks


def fill(task: str, homes: Sequence[str], arguments: Sequence[Sequence[Any]]) -> None:
    called = getattr(tasks, task)
    for home in homes:
        with transaction.atomic():
            for each in arguments:
                called.enqueue(home, *each)


def waits(homes: Sequence[str], pauses: Sequence[float]) -> list[float]:
    return [bodies.wait(tasks.note_start.enqueue, pause=pause) for pause in pauses]
