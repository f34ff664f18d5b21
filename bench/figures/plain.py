"""A plain task of a tenant's that makes one SELECT and ignores its result."""

from bench.measure import tasks_per_second
from bench.statistics import Outcome, compare, interleaved, medians
from bench.system import System
from bench.world import World
from tests.peers.peer import tuned

NOTE = "the task is the same, with ignore_result=True; tenants take turns; worker: prefork -c 2, -l INFO"
WARM_UP = 200
OURS = 1000


def plain_task_shipped(world: World) -> Outcome:
    """Against plain Celery as its guide sets it up."""
    with world.tenantry(["worker"]) as ours, world.plain_celery() as theirs:
        return _compared(ours, theirs, times=250, target=3.5)


def plain_task_tenant_schemas(world: World) -> Outcome:
    """Against tenant-schemas-celery as its README sets it up."""
    with world.tenantry(["worker"]) as ours, world.tenant_schemas() as theirs:
        return _compared(ours, theirs, times=200, target=5)


def plain_task_tuned(world: World) -> Outcome:
    """Against plain Celery with the very same tuned settings."""
    with world.tenantry(["worker"]) as ours, world.plain_celery(**tuned()) as theirs:
        return _compared(ours, theirs, times=OURS, target=0.97)


def _compared(ours: System, theirs: System, *, times: int, target: float) -> Outcome:
    for system in (ours, theirs):
        tasks_per_second(system, WARM_UP)
    rounds = interleaved(lambda: tasks_per_second(ours, OURS), lambda: tasks_per_second(theirs, times))
    part = compare("tasks a second", rounds, float, at_least=target)
    return Outcome([part], "times as many tasks a second", {"note": NOTE, **medians(rounds)})
