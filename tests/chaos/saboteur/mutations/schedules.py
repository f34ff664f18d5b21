"""The runs of schedules."""

from collections.abc import Callable
from typing import Any

from jobs import schedules, statements
from jobs.beat import Schedule, TenantScheduler
from tests.chaos.saboteur.mutations.ways import edit, mutation
from tests.chaos.saboteur.points import point, wrap


@mutation
def run_noted_after_its_job() -> None:
    """As the library does it, if it did so at once."""

    def apply_entry(apply_entry: Callable[..., None], own: TenantScheduler, entry: Schedule, **options: Any) -> None:
        schedules.dispatch(entry.run)
        entry.take()
        point("run-committed")

    wrap(TenantScheduler, "apply_entry", apply_entry)


@mutation
def run_noted_before_its_job() -> None:
    def apply_entry(apply_entry: Callable[..., None], own: TenantScheduler, entry: Schedule, **options: Any) -> None:
        if entry.take():
            point("run-written")
            schedules.dispatch(entry.run)
        point("run-committed")

    wrap(TenantScheduler, "apply_entry", apply_entry)


@mutation
def run_taken_by_each_beat() -> None:
    """Who reads a schedule that is due dispatches a run, whatever another beat has done meanwhile."""

    def take(take: Callable[[Schedule], bool], own: Schedule) -> bool:
        take(own)
        return True

    wrap(Schedule, "take", take)


@mutation
def runs_pile_up() -> None:
    """None stands for another."""
    edit(statements, "INSERT_RUN", "%(schedule)s", "%(schedule)s || %(id)s")
