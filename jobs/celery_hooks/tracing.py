"""Running a message in this process, as a worker's child runs it."""

from collections.abc import Callable, Mapping
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import Task
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject
from celery.utils.serialization import get_pickleable_exception
from kombu.utils.encoding import safe_repr

from jobs.celery_hooks import child, soft_limits
from tenants.binding import current_owner, set_owner, unbind
from tenants.context import copy_clean_context


def in_own_context(tracer: Callable[..., Any]) -> Callable[..., Any]:
    """A tracer that runs each message in a copy of the process's context."""

    def trace(*args: Any, **options: Any) -> Any:
        soft_limits.start_task()
        child.remember_pipes()
        context = copy_clean_context()
        context.run(_unbind)
        outcome = context.run(tracer, *args, **options)
        child.end_if_exhausted()
        if isinstance(outcome.retval, ExceptionInfo):
            outcome.retval.exception = _sendable(outcome.retval.exception)
        return outcome

    return trace


def _unbind() -> None:
    """From the process's own tenant, `public`, which is not the message's. The process is the owner until a task is."""
    owner = current_owner()
    unbind()
    set_owner(owner)


def _sendable(error: BaseException) -> Any:
    """An error that the worker's main process can read, or its loop would die. Celery sees to that for most."""
    own = error.exc if isinstance(error, ExceptionWithTraceback) else error
    match own:
        case Reject():
            return Reject(safe_repr(own.reason), requeue=own.requeue)
        case Ignore():
            return Ignore(safe_repr(own))
    return get_pickleable_exception(error)


def trace(task: Task[Any, Any], task_id: str, request: Mapping[str, Any], args: tuple[Any, ...] = ()) -> None:
    """Run a task by Celery's own tracer, with these parts of its request; what it raises is recorded, not raised."""
    run = in_own_context(build_tracer(task.name, task, app=task.app))
    run(task_id, args, {}, {"id": task_id, "task": task.name, "delivery_info": {}, **request})
