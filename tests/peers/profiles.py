"""How a peer is set up: as its guide shows, and with whatever its documentation offers for jobs that matter."""

from dataclasses import dataclass, field
from typing import Any

from tests.chaos.pace import Pace


@dataclass(frozen=True)
class Profile:
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)


def profiles(pace: Pace) -> list[Profile]:
    return [Profile("as its guide shows"), Profile("late acks, retries", late(pace), {"REMAP_SIGTERM": "SIGQUIT"})]


def late(pace: Pace) -> dict[str, Any]:
    """Late acknowledgement, which Celery's documentation advises for tasks that may run again, and what goes with it.

    A message is visible again after the time that the product's leases last.
    """
    return {
        "CELERY_TASK_ACKS_LATE": True,
        "CELERY_TASK_REJECT_ON_WORKER_LOST": True,
        "CELERY_TASK_RETRY_ON_WORKER_LOST": True,
        "CELERY_WORKER_DEDUPLICATE_SUCCESSFUL_TASKS": True,
        "CELERY_RESULT_EXTENDED": True,
        "CELERY_RESULT_BACKEND_ALWAYS_RETRY": True,
        "CELERY_WORKER_PREFETCH_MULTIPLIER": 1,
        "CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS": True,
        "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": pace.soft_limit,
        "CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE": True,
        "CELERY_BROKER_TRANSPORT_OPTIONS": {
            "visibility_timeout": pace.lease,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": 1,
            "socket_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 5,
        },
        # The guide has it on; with the results in a database that is away, a task fails before its first line.
        "CELERY_TASK_TRACK_STARTED": False,
        "RETRY_DATABASE_ERRORS": True,
    }
