"""What a peer's processes do at the points. `twice`: every message of a task is published twice."""

import functools
from collections.abc import Callable
from typing import Any

from celery import signals, states
from django.db import connection, transaction
from kombu.messaging import Producer

from tests.chaos.saboteur.points import commanded, note, point, wrap
from tests.peers.shop import services, tasks


def install() -> None:
    signals.task_prerun.connect(enter, weak=False)
    signals.task_postrun.connect(leave, weak=False)
    wrap(services, "charge", functools.partial(_call, "charge"))
    wrap(services, "transmit", functools.partial(_call, "mail"))
    wrap(tasks.bill_order, "delay_on_commit", _dispatch)
    wrap(Producer, "publish", _publish)


def schema() -> str:
    return getattr(connection, "schema_name", "public")


def enter(task_id: str, task: Any, kwargs: dict[str, Any], **_: Any) -> None:
    note("entered", job=task_id)
    point("after-claim", task_id)
    note("began", job=task_id, task=task.name, home=kwargs.get("home", schema()))


def leave(task_id: str, state: str, **_: Any) -> None:
    """The result is stored; a message that is acknowledged late is not yet."""
    if state == states.SUCCESS:
        point("after-commit", task_id)
    note("left", job=task_id)


def _call(name: str, call: Callable[..., Any], *args: Any) -> Any:
    point(f"before-{name}")
    answer = call(*args)
    point(f"after-{name}")
    return answer


def _dispatch(dispatch: Callable[..., None], *args: Any) -> None:
    """The order is committed when its hooks begin, and this is the first."""
    transaction.on_commit(functools.partial(point, "ordered"))
    dispatch(*args)
    point("dispatched")


def _publish(publish: Callable[..., Any], *args: Any, **options: Any) -> Any:
    if commanded("twice") and "task" in (options.get("headers") or {}):
        publish(*args, **options)
    return publish(*args, **options)
