"""The limits that the pool gets for a task: a lease must never end before them."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import current_app

from jobs.message import HEADER
from jobs.task import TenantTask
from jobs.worker.request import TenantRequest
from tests.jobs.durables import atomic


def limits(of_call: tuple[float | None, float | None], *, durable: bool, **of_task: float) -> tuple[Any, Any]:
    """Hard and soft, of a message of a task."""
    task: TenantTask = type("Limited", (TenantTask,), {"name": atomic.name, **of_task})()
    header = {"schema": "public", "durable": durable}
    message = SimpleNamespace(
        headers={"id": "1", "task": task.name, "timelimit": of_call, HEADER: header},
        body=b"",
        payload=((), {}, {}),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    hard, soft = TenantRequest(message, app=current_app, task=task).time_limits
    return hard, soft


@pytest.mark.parametrize(
    ("of_call", "of_task", "expected"),
    [
        ((None, None), {}, (30, 25)),
        ((100, None), {}, (100, 25)),
        ((100, 90), {}, (100, 90)),
        ((6, None), {}, (6, 5)),
        ((None, None), {"time_limit": 12}, (12, 10)),
        ((None, None), {"time_limit": 120, "soft_time_limit": 100}, (120, 100)),
        ((None, 3), {}, (30, 3)),
    ],
)
def test_a_durable_job_has_those_of_call_task_or_settings(
    of_call: Any, of_task: dict[str, float], expected: Any
) -> None:
    """And not those of `celery worker --time-limit`, which the pool takes where it is given none."""
    assert limits(of_call, durable=True, **of_task) == expected


def test_a_plain_task_without_limits_of_its_own_has_those_of_the_worker() -> None:
    assert limits((None, None), durable=False) == (None, None)


def test_a_plain_tasks_soft_limit_comes_before_its_hard_one() -> None:
    assert limits((None, None), durable=False, time_limit=12) == (12, 10)
