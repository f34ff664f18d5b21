"""What users write: the bodies of tasks and their hooks. Each runs at home, and ends no more than its own task.

Celery calls `before_start` before the task's tenant is known. It hands the other hooks the arguments of the message,
which a durable job's has none of. It takes the hooks from the task object: ours stand there, before those of its class.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import Task

from jobs.celery_hooks import child, soft_limits
from jobs.celery_hooks.internals import GreenletExit, runs_in_a_childs_process
from jobs.errors import Unpresentable, describe, ends_its_reader
from tenants.binding import NOBODY, bind, bound_tenant
from tenants.connection import connection
from tenants.session import start_owner

logger = logging.getLogger(__name__)

#: The hooks that follow an attempt, and where the body's arguments stand among theirs.
FOLLOWING = {"on_success": 2, "on_failure": 2, "on_retry": 2, "after_return": 3}


@contextmanager
def guarded() -> Iterator[None]:
    """Around a body or a hook: a soft limit raises in it. What is no Exception becomes a RuntimeError, unless it ends
    the process or the greenlet: it would end the worker, or hang it. So would an Exception that raises it when Celery
    prints or pickles it.
    """
    try:
        with soft_limits.raised():
            yield
    except (SystemExit, GreenletExit):  # see `staying_in_process`
        raise
    except Exception as error:
        if ends_its_reader(error):
            raise Unpresentable(describe(error)) from None
        raise
    except BaseException as error:
        raise RuntimeError(f"The body raised {describe(error)}") from error
    finally:
        child.end_if_cut_off()


@contextmanager
def staying_in_process() -> Iterator[None]:
    """A `sys.exit()` ends a prefork child. In other pools Celery would lose the result, or the worker."""
    try:
        yield
    except SystemExit as error:
        if ends_its_process(error):
            raise
        raise RuntimeError(f"The body raised {describe(error)}") from error


def ends_its_process(error: BaseException) -> bool:
    """Whether it ends a prefork child, or a greenlet; or, raised by Celery itself, the worker."""
    if type(error) is SystemExit:
        return runs_in_a_childs_process()
    return isinstance(error, SystemExit | GreenletExit)


def run_body(task: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run a task's `before_start` and its body; what the body returns."""
    with guarded():
        type(task).before_start(task, task_id, args, kwargs)
        return task.run(*args, **kwargs)


def take_over_hooks(task: Task[Any, Any]) -> None:
    """Let Celery leave `before_start` to `run_body`, and call the task's other hooks by way of this module."""
    vars(task)["before_start"] = _leave_to_run_body
    for name, place in FOLLOWING.items():
        vars(task)[name] = partial(_follow, task, name, place)


def _leave_to_run_body(*args: Any) -> None:
    pass


def _follow(task: Task[Any, Any], name: str, place: int, *given: Any) -> None:
    request = task.request
    hook = partial(getattr(type(task), name), task)
    arguments = (*given[:place], request.args, request.kwargs, *given[place + 2 :])
    if request.is_eager:
        hook(*arguments)
    elif request.id and bound_tenant() is not NOBODY:
        _call_at_home(hook, arguments, what=f"{name} of {task.name}[{request.id}]")
    # Else its tenant was never entered: the attempt did not begin, or this is the worker's main process.


def _call_at_home(hook: Any, arguments: Sequence[Any], *, what: str) -> None:
    """The outcome is recorded already. Celery would record another one for some hooks that raise."""
    home = bound_tenant()
    try:
        with staying_in_process(), guarded():
            hook(*arguments)
        if connection.in_transaction():
            logger.error("%s left a transaction open, so nothing of it was committed", what)
    except Exception:
        logger.exception("%s raised; the task's outcome stays as it is", what)
    finally:
        start_owner()
        bind(home)
