"""The dispatch, and the relay."""

from collections.abc import Callable
from typing import Any

from django.db import transaction

from jobs import task
from jobs.relay import statements
from jobs.relay.line import Due
from jobs.relay.publisher import Publisher
from tests.chaos.saboteur.mutations.endings import nothing_fenced
from tests.chaos.saboteur.mutations.ways import edit, execute, mutation
from tests.chaos.saboteur.points import wrap


@mutation
def published_after_the_commit() -> None:
    """As Django's documentation has it: straight to the broker, in a hook."""

    def dispatch(
        dispatch: Callable[..., str], own: task.TenantTask, args: Any = None, kwargs: Any = None, **terms: Any
    ) -> str:
        job_id = dispatch(own, args, kwargs, **terms)

        def publish() -> None:
            execute("DELETE FROM public.jobs_job WHERE id = %s", job_id)
            own.apply_async(args, kwargs, task_id=job_id, **terms)

        transaction.on_commit(publish, robust=True)
        return job_id

    wrap(task.TenantTask, "apply_async_on_commit", dispatch)


@mutation
def published_before_the_commit() -> None:
    """Straight to the broker, at the call."""

    def dispatch(
        dispatch: Callable[..., str], own: task.TenantTask, args: Any = None, kwargs: Any = None, **terms: Any
    ) -> str:
        job_id = dispatch(own, args, kwargs, **terms)
        own.apply_async(args, kwargs, task_id=job_id, **terms)
        transaction.on_commit(lambda: execute("DELETE FROM public.jobs_job WHERE id = %s", job_id) and None)
        return job_id

    wrap(task.TenantTask, "apply_async_on_commit", dispatch)


@mutation
def send_deletes() -> None:
    def publish(publish: Callable[..., None], own: Publisher, due: list[Due]) -> None:
        publish(own, due)
        execute("DELETE FROM public.jobs_job WHERE id = ANY(%s)", [job.id for job in due])

    wrap(Publisher, "publish", publish)


@mutation
def never_sent_again() -> None:
    edit(statements, "MARK", "interval '1 second'", "interval '1 day'")


@mutation
def sent_without_a_mark() -> None:
    nothing_fenced()
    edit(statements, "MARK", "tag = NULL,", "tag = tag,")


@mutation
def no_waking() -> None:
    """Nobody puts in line what was not due when it was dispatched."""
    for statement in ("WAKE", "WAKE_EACH_TENANT"):
        edit(statements, statement, "job.state = 'waiting'", "false")


@mutation
def no_unparking() -> None:
    edit(statements, "UNPARK", "WHERE id", "WHERE false AND id")


@mutation
def poison_never_dead() -> None:
    edit(statements, "FIND_POISON", "WHERE state", "WHERE false AND state")
