"""Beside peers that keep their jobs in PostgreSQL, too, each as its guide has it: speeds are reported only."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any

from bench.measure import rate_of_first, work_off
from bench.postgresql_peers import PEERS
from bench.statistics import Outcome, Part, Round, compare, in_turn, percentile
from bench.system import System
from bench.world import World

WARM_UP = 200
WAITING = 5000
DRAIN_SECONDS = 6
IDLE_JOBS = 20
# Of a second's length, so that commits come at all phases of a peer that looks once a second.
PAUSES = (0.05, 1.05)
HOSTS = 2
RECORDS = 2000
KILL_EVERY = 2.0
# For so many seconds at the most; and how long all are waited for at least.
KILLING = 12
WATCHED = 45
LOOK_SECONDS = 0.1
OURS = "Tenantry"


def peers_drain(world: World) -> Outcome:
    """5,000 jobs of one SELECT wait: bodies a second, results kept."""
    with _systems(world) as systems:
        for system in systems.values():
            _fill(system, WARM_UP)
            work_off(system, WARM_UP, results=WARM_UP)
        rounds = _in_turn(systems, _drain, rounds=2)
    note = f"{WAITING} wait, of which as many are run as {DRAIN_SECONDS} s allow; results: procrastinate keeps none"
    parts = [compare(name, rounds[name], float) for name in rounds]
    return Outcome(
        parts, "times as many jobs a second, reported", {"note": note, "peers": _versions(), **_medians(rounds)}
    )


def _drain(system: System) -> float:
    _fill(system, WAITING)
    return rate_of_first(system, WAITING, seconds=DRAIN_SECONDS)


def _fill(system: System, times: int) -> None:
    system.empty()
    each: list[list[Any]] = [[]] * (times // len(system.homes))
    system.call("fill", task="look_and_tell", homes=system.homes, arguments=each)


def peers_idle(world: World) -> Outcome:
    """Commit to the body's start, p95."""
    chance = random.Random(1)
    pauses = [chance.uniform(*PAUSES) for _ in range(IDLE_JOBS)]

    def p95(system: System) -> float:
        system.empty()
        with system.awake():
            system.call("waits", homes=system.homes[:1], pauses=pauses[:2])
            return percentile(system.call("waits", homes=system.homes[:1], pauses=pauses), 95)

    with _systems(world) as systems:
        rounds = _in_turn(systems, p95, rounds=1)
    parts = [compare(name, rounds[name], float) for name in rounds]
    note = "from the return of COMMIT to the body's start; seconds"
    return Outcome(parts, "ratio of p95, reported", {"note": note, "peers": _versions(), **_medians(rounds)})


def peers_killed(world: World) -> Outcome:
    """2,000 jobs of one INSERT while one of two workers is killed every 2 s."""
    began = {}
    with _systems(world, hosts=HOSTS) as systems, ExitStack() as exits:
        for name, system in systems.items():
            system.empty()
            each = [[number] for number in range(RECORDS // len(system.homes))]
            system.call("fill", task="record", homes=system.homes, arguments=each)
            exits.enter_context(system.awake())
            began[name] = time.time()
            _kill_workers(system)
        deadline = time.time() + WATCHED - KILLING
        while time.time() < deadline and not all(system.records().different == RECORDS for system in systems.values()):
            time.sleep(LOOK_SECONDS)
        parts = [part for name, system in systems.items() for part in _counted(name, system, began[name])]
        left = {f"{name}, jobs that have not ended": system.left() for name, system in systems.items()}
    note = f"killed for {KILLING} s at the most; what is not there after {WATCHED} s or more is lost"
    return Outcome(parts, "effects, and seconds", {"note": note, "peers": _versions(), **left})


def _kill_workers(system: System) -> None:
    workers = cycle(process for kind, process in system.processes.items() if kind.startswith("worker"))
    began = killed = time.monotonic()
    while time.monotonic() < began + KILLING and system.records().different < RECORDS:
        time.sleep(LOOK_SECONDS)
        if time.monotonic() >= killed + KILL_EVERY:
            killed += KILL_EVERY
            worker = next(workers)
            worker.kill()
            worker.start()


def _counted(name: str, system: System, began: float) -> Iterator[Part]:
    """Tenantry's promise is a target; what peers do is reported."""
    records = system.records()
    lost, twice = RECORDS - records.different, records.rows - records.different
    seconds = WATCHED if lost else records.last - began
    target = 0 if name == OURS else None
    yield Part(f"{name}, effects lost", [lost], [], target, at_least=False)
    yield Part(f"{name}, effects twice", [twice], [], target, at_least=False)
    yield Part(f"{name}, seconds until all are there", [seconds], [], None, at_least=False)


@contextmanager
def _systems(world: World, *, hosts: int = 1) -> Iterator[dict[str, System]]:
    """Tenantry first."""
    with ExitStack() as exits:
        systems = {OURS: exits.enter_context(world.tenantry(hosts=hosts))}
        for like in PEERS:
            systems[like.peer.title] = exits.enter_context(world.on_postgresql(like, hosts=hosts))
        yield systems


def _in_turn(
    systems: dict[str, System], measured: Callable[[System], float], *, rounds: int
) -> dict[str, list[Round[float]]]:
    calls = {name: partial(measured, system) for name, system in systems.items()}
    return in_turn(calls.pop(OURS), calls, rounds=rounds)


def _versions() -> str:
    return ", ".join(f"{like.peer.title} {like.peer.version()}" for like in PEERS)


def _medians(rounds: dict[str, list[Round[float]]]) -> dict[str, float]:
    [ours, *_] = rounds.values()
    theirs = {name: median(round.theirs for round in rounds[name]) for name in rounds}
    return {OURS: median(round.ours for round in ours), **theirs}
