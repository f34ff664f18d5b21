"""One scenario, from a clean start to the count."""

import os
import random
import signal
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from devstack import DevstackError
from devstack.processes import wait_until
from tests.chaos.books import Books, Faults
from tests.chaos.commands import Event
from tests.chaos.load import ORDERS, Answer, Load, Request, order_of, plan
from tests.chaos.tenants import Tenant
from tests.chaos.world import SLUGS, World

COUNTERS = ("lost", "twice", "wrong", "early", "stuck")


@dataclass
class Result:
    name: str
    jobs: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    early: int = 0
    stuck: int = 0
    recovered_s: float | None = None
    asked: int = 0
    unserved: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.jobs == 0 or bool(self.details)

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "jobs", *COUNTERS, "recovered_s")}


class Run:
    """What a scenario works with. Chance comes from the seed and the scenario's name alone."""

    def __init__(self, world: World, name: str, seed: int) -> None:
        self.world, self.pace, self.commands = world, world.pace, world.commands
        self.chance = random.Random(zlib.crc32(name.encode()) ^ seed)
        self.tenants = [world.tenants[slug] for slug in SLUGS]
        self.loads: list[Load] = []
        self.complaints: list[str] = []
        self.asked = self.unserved = 0
        self.faults = Faults()
        self.over_at = 0.0
        self.inactive: list[tuple[str, float, float]] = []
        sinks = (world.stack.cards.calls, world.stack.mail.calls)
        self.sinks_from = {log: len(log.read_text().splitlines()) for log in sinks}

    def load(self, *, spread: float | None = None, tenants: list[Tenant] | None = None) -> Load:
        """The usual load, for a `with` block in which faults strike."""
        spread = self.pace.spread if spread is None else spread
        amounts = {"orders": self.pace.orders, "probes": self.pace.probes}
        return self._load(plan(tenants or self.tenants, self.chance, **amounts, spread=spread))

    def probes(self, probe: str, count: int, *, tenants: list[Tenant] | None = None, **body: Any) -> list[str]:
        """Dispatch so many now; their ids."""
        among = tenants or self.tenants
        body = {"probe": probe, **body}
        with self._load([Request(0, among[number % len(among)], "chaos/", body) for number in range(count)]) as load:
            pass
        return [answer.body["id"] for answer in load.answers if answer.created]

    def orders(self, count: int, *, tenants: list[Tenant] | None = None) -> None:
        among = tenants or self.tenants
        of = [among[number % len(among)] for number in range(count)]
        with self._load([Request(0, tenant, ORDERS, order_of(tenant)) for tenant in of]):
            pass

    def _load(self, requests: list[Request]) -> Load:
        self.loads.append(Load(self.world, requests))
        return self.loads[-1]

    def pause(self, least: float, most: float) -> None:
        """Until a random moment."""
        time.sleep(self.chance.uniform(least, most))

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        wait_until(lambda: bool(condition()), seconds=self.pace.patience, what=what)

    def wait_for(self, event: str, **facts: Any) -> None:
        """Until such an event is noted."""
        told = f"{event} {facts}"
        self.wait(lambda: any(facts.items() <= noted.items() for noted in self.commands.events(event)), told)

    def wait_for_quiet(self) -> None:
        self.wait(self.world.is_quiet, "quiet")

    def wait_for_work(self) -> None:
        self.wait(self.world.is_at_work, "somebody at work")

    def strike(self, *points: str, times: int = 1) -> None:
        """Kill the next processes that come to each of the points; returns when they have come."""
        for point in points:
            self.commands.kill_at(point, times=times)
        self.wait(lambda: not self.commands.pending(), f"kills at {', '.join(points)}")

    def thaw(self, name: str, held: list[Event]) -> None:
        """Wake up those who were held, and their parent when they have left their jobs: it would kill some of them."""
        for event in held:
            os.kill(event["pid"], signal.SIGCONT)
        self.wait_until_left(held)
        self.world.signal_all(signal.SIGCONT, name)

    def wait_until_left(self, held: list[Event]) -> None:
        """Until those who were held are through with that job, for good or ill."""

        def left(event: Event) -> bool:
            return any(
                (end["pid"], end["job"]) == (event["pid"], event["job"]) and end["at"] > event["at"]
                for end in self.commands.events("left")
            )

        self.wait(lambda: all(map(left, held)), "jobs left")

    def over(self) -> None:
        """The fault has ended: the clock of the recovery starts."""
        self.over_at = time.monotonic()

    def expect(self, held: bool, otherwise: str) -> None:
        if not held:
            self.complaints.append(otherwise)

    def expect_served(self, *, within: float) -> None:
        """Whatever is broken, no request failed or took long."""
        for answer in self.answers:
            told = f"{answer.request.path} answered {answer.status} at try {answer.tries}, after {answer.seconds:.1f} s"
            served = answer.created and answer.tries == 1 and answer.seconds < within
            self.asked += 1
            self.unserved += not served
            self.expect(served, told)

    def was_inactive(self, event: dict[str, Any]) -> bool:
        return any(home == event["home"] and since < event["at"] < until for home, since, until in self.inactive)

    @property
    def answers(self) -> list[Answer]:
        return [answer for load in self.loads for answer in load.answers]


def play(world: World, scenario: Callable[[Run], None], name: str, seed: int, *, books: type[Books] = Books) -> Result:
    world.tidy()
    run = Run(world, name, seed)
    result = Result(name)
    try:
        scenario(run)
        run.over_at = run.over_at or time.monotonic()
        world.heal()
        run.wait_for_quiet()
        result.recovered_s = round(time.monotonic() - run.over_at, 1)
    except (DevstackError, AssertionError) as error:
        run.complaints.append(str(error))
        world.heal()
    book = books(world, run.faults, sinks_from=run.sinks_from, answers=run.answers, inactive=run.was_inactive)
    result.asked, result.unserved = run.asked, run.unserved
    _enter(result, book.close(), len(book.jobs), run.complaints)
    if result.failed:
        world.clear_away(name)
    return result


def _enter(result: Result, faults: Faults, jobs: int, complaints: list[str]) -> None:
    result.jobs = jobs
    result.details = list(complaints)
    for counter in COUNTERS:
        found = getattr(faults, counter)
        setattr(result, counter, len(found))
        result.details += [f"{counter}: {fault}" for fault in found]
