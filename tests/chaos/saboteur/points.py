"""Faults at exact points, commanded by files in CHAOS_FOLDER, so that processes need no restart to be struck.

`kill.<point>.<n>`   one process that comes to the point takes the file away and kills itself, -9
`hold.<point>`       processes that come to the point wait there until the file is gone
`events.jsonl`       what happened: who entered a job, began its body, left it, was held or struck; and what a child's
                     parent knew and did
"""

import functools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import current_task

FOLDER = Path(os.environ["CHAOS_FOLDER"])


def note(event: str, **facts: Any) -> None:
    line = {"event": event, "pid": os.getpid(), "at": time.monotonic(), **facts}
    with (FOLDER / "events.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def point(name: str, job: str = "") -> None:
    job = job or (current_task.request.id if current_task else "")
    for order in FOLDER.glob(f"kill.{name}.*"):
        # A job whose child is killed again and again is poison, and no fault.
        if _is_first(job) and _take(order):
            note("struck", point=name, job=job)
            os.kill(os.getpid(), signal.SIGKILL)
    hold = FOLDER / f"hold.{name}"
    if hold.exists():
        note("held", point=name, job=job)
        while hold.exists():
            time.sleep(0.01)


def _is_first(job: str) -> bool:
    try:
        (FOLDER / f"victim.{job}").touch(exist_ok=not job)
    except FileExistsError:
        return False
    return True


def _take(order: Path) -> bool:
    try:
        order.unlink()
    except FileNotFoundError:
        return False
    return True


def commanded(name: str) -> bool:
    return (FOLDER / name).exists()


def wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Let `wrapper(original, *args, **kwargs)` stand in its place."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(owner, name, wrapped)
