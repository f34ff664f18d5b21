"""What its driver does for figures, as `bench.work.calls` has it."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from bench.work import bodies
from tests.peers.procrastinate import tasks


def fill(task: str, homes: Sequence[str], arguments: Sequence[Sequence[Any]]) -> None:
    called = getattr(tasks, task)
    for home in homes:
        with transaction.atomic():
            called.batch_defer(*(dict(zip(("home", "number"), [home, *each], strict=False)) for each in arguments))


def waits(homes: Sequence[str], pauses: Sequence[float]) -> list[float]:
    return [bodies.wait(tasks.note_start.defer, pause=pause) for pause in pauses]
