"""How fast work gets done that lies ready when its workers wake up. A wrong count is an error, not a figure."""

import time

from bench.system import System
from devstack import DevstackError
from devstack.processes import wait_until

PATIENCE = 60.0
LOOK_SECONDS = 0.02
# The share of the work that is not counted: workers wake up, connect, fill their buffers.
WARM_UP = 0.1
WARM_UP_SECONDS = 1.0


def tasks_per_second(system: System, times: int, *, task: str = "look", results: int = 0) -> float:
    """Plain tasks, published while the worker sleeps. `results` is how many they leave."""
    system.empty()
    system.call("delay", task=task, homes=system.homes, times=times)
    return work_off(system, times, results=results)


def jobs_per_second(system: System, times: int, *, task: str = "look_and_tell") -> float:
    """Durable jobs, in the outbox when relay and worker wake up; each leaves a result."""
    system.empty()
    system.call("insert", task=task, homes=system.homes, times=times)
    return work_off(system, times, results=times)


def work_off(system: System, times: int, *, results: int) -> float:
    """Bodies a second."""
    with system.awake():
        rate = watch(system, times)
        # A stock result row is written after its message is gone.
        wait_until(lambda: system.is_idle() and system.results() >= results, seconds=PATIENCE, what="idle")
    system.check(times, results=results)
    return rate


def rate_of_first(system: System, times: int, *, seconds: float) -> float:
    """Bodies a second, from the end of the first second on; what is not done after so many seconds is forgotten."""
    looks = [(0.0, 0)]
    began = time.perf_counter()
    with system.awake():
        while looks[-1][1] < times and looks[-1][0] < seconds:
            time.sleep(LOOK_SECONDS)
            looks.append((time.perf_counter() - began, system.database.count()))
        system.forget()
        wait_until(system.is_idle, seconds=PATIENCE, what="idle")
    bodies = system.database.count()
    system.check(bodies, results=bodies)
    counted = [look for look in looks if look[0] >= WARM_UP_SECONDS and look[1] < times]
    (first_at, first), (last_at, last) = counted[0], counted[-1]
    return (last - first) / (last_at - first_at)


def watch(system: System, times: int) -> float:
    """Between the end of the warm-up and the last look before the end, so that no look comes late."""
    looks = [(0.0, 0)]
    deadline = time.perf_counter() + PATIENCE
    while looks[-1][1] < times:
        time.sleep(LOOK_SECONDS)
        looks.append((time.perf_counter(), system.database.count()))
        if looks[-1][0] > deadline:
            raise DevstackError(f"{system.name}: {looks[-1][1]} of {times} bodies ran in {PATIENCE:.0f} s")
    counted = [look for look in looks if WARM_UP * times <= look[1] < times]
    (began, first), (ended, last) = counted[0], counted[-1]
    return (last - first) / (ended - began)
