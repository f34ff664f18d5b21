"""What worker, relay and web keep after many jobs of many tenants."""

import time
from collections.abc import Sequence
from itertools import cycle, islice
from statistics import median

from bench.load import request, send
from bench.memory import megabytes
from bench.statistics import Outcome, Part
from bench.system import System
from bench.world import World
from devstack.processes import wait_until

KINDS = ("worker", "relay", "web")
TENANTS = 1000
FIRST, LAST = 1_000, 50_000
A_REQUEST = 10
PATIENCE = 600
LOOKS = 10
LOOK_SECONDS = 0.2

# Megabytes of each kind of process, at each look.
Looks = dict[str, list[float]]


def memory(world: World) -> Outcome:
    """After 50,000 jobs of 1,000 tenants, that requests dispatched, against after 1,000 jobs."""
    with world.tenantry(KINDS, count=TENANTS) as system, system.awake():
        system.empty()
        requests = cycle([request(f"/bench/{A_REQUEST}/", host=f"{home}.localhost") for home in system.homes])
        _run_jobs(system, list(islice(requests, FIRST // A_REQUEST)), total=FIRST)
        first = _look(system)
        _run_jobs(system, list(islice(requests, (LAST - FIRST) // A_REQUEST)), total=LAST)
        last = _look(system)
    detail = {f"{kind}, MB, first and last": [round(median(looks[kind])) for looks in (first, last)] for kind in KINDS}
    note = "proportional set size; one run, whose spread is between the halves of what was read each time"
    return Outcome([_part(kind, first[kind], last[kind]) for kind in KINDS], "ratio", {"note": note, **detail})


def _run_jobs(system: System, requests: Sequence[str], *, total: int) -> None:
    send(system.port, requests, times=len(requests))
    wait_until(system.is_idle, seconds=PATIENCE, what="all jobs done")
    system.check(total, results=total)


def _look(system: System) -> Looks:
    looks: Looks = {kind: [] for kind in KINDS}
    for _ in range(LOOKS):
        for kind in KINDS:
            looks[kind].append(megabytes(system.processes[kind].pid))
        time.sleep(LOOK_SECONDS)
    return looks


def _part(kind: str, first: list[float], last: list[float]) -> Part:
    nulls = [median(looks[: LOOKS // 2]) / median(looks[LOOKS // 2 :]) for looks in (first, last)]
    return Part(kind, [median(last) / median(first)], nulls, target=1.1, at_least=False)
