"""What a tenant may know of its jobs: a row of the outbox while they are under way, then a result row."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import states
from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast
from django_celery_results.models import TaskResult

from jobs.errors import MAX_ERROR, TOLD, is_drivers, storable
from jobs.models import Job
from tenants.services import current_tenant

#: Of Celery's states, those that the API tells of
SHOWN = states.READY_STATES | {states.PENDING, states.STARTED, states.RETRY, states.IGNORED}
UUID_TEXT = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job, under way or ended. Times have a zone; `finished_at` is None until it has ended."""

    id: str
    task: str
    state: str
    attempts: int
    result: Any
    error: str | None
    created_at: datetime
    due_at: datetime | None
    finished_at: datetime | None


def find_status(job_id: str) -> JobStatus | None:
    """The job (or the plain task that has a result) with this id, if it belongs to the tenant that is active."""
    if job := Job.objects.filter(id=job_id, tenant=current_tenant()).first():
        return of_job(job)
    if result := TaskResult.objects.filter(task_id=job_id).first():
        return of_result(result)
    return None


def ended_jobs() -> QuerySet[TaskResult]:
    """The results of the active tenant's jobs and plain tasks, without those of dead jobs, which may run again."""
    dead = Job.objects.filter(tenant=current_tenant(), state=Job.State.DEAD)
    # A plain task may have been given an id that is no UUID: the API knows no address for it.
    reachable: QuerySet[TaskResult] = TaskResult.objects.filter(task_id__regex=UUID_TEXT)
    ended: QuerySet[TaskResult] = reachable.exclude(task_id__in=dead.values_list(Cast("id", TextField())))
    return ended


def of_job(job: Job) -> JobStatus:
    """What a row of the outbox says."""
    return JobStatus(
        id=str(job.id),
        task=job.task,
        state=_state(job),
        attempts=job.attempt,
        result=None,
        error=job.error or None,
        created_at=job.created_at,
        due_at=job.due_at,
        finished_at=None,
    )


def _state(job: Job) -> str:
    if job.state == Job.State.DEAD:
        return "dead"
    if job.token is not None:
        return "started"
    return "retry" if job.retries else "pending"


def of_result(row: TaskResult) -> JobStatus:
    """What a result says of a job or a plain task."""
    value, meta = _read(row.result), _read(row.meta)
    meta = meta if isinstance(meta, dict) else {}
    return JobStatus(
        id=row.task_id,
        task=row.task_name or "",
        # A body may have given its task a state of its own, while it runs.
        state=row.status.lower() if row.status in SHOWN else "started",
        attempts=attempts if isinstance(attempts := meta.get("attempts"), int) else 1,
        result=value if row.status == states.SUCCESS else None,
        error=meta.get("error") or _error(value) if row.status in states.EXCEPTION_STATES else None,
        created_at=row.date_created,
        due_at=None,
        finished_at=row.date_done if row.status in states.READY_STATES | {states.IGNORED} else None,
    )


def _read(text: str | None) -> Any:
    """A value that the API can show. A plain task's result may be no strict JSON, and anybody may change a row."""
    try:
        value = json.loads(text or "null", parse_constant=str)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return text
    return value


def _error(value: Any) -> str:
    """In words, from the form in which Celery keeps an exception."""
    if not isinstance(value, dict):
        return str(value)
    if isinstance(told := value.get(TOLD), str):
        return told
    # A row of the release before
    if is_drivers(value.get("exc_module")):
        return str(value.get("exc_type"))
    message = value.get("exc_message")
    text = ", ".join(map(str, message)) if isinstance(message, list | tuple) else str(message)
    return storable(f"{value.get('exc_type')}: {text}", MAX_ERROR)
