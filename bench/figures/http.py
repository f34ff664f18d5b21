"""`POST /orders/` as clients see it: the Procfile's web, with two processes of four threads; 16 connections."""

from statistics import median

from bench.load import Answers, request, send
from bench.statistics import Outcome, Part, Round, compare, interleaved
from bench.system import System
from bench.world import World
from tests.chaos.proxy import Mode, Proxy

TENANTS = 8
WARM_UP = 100
ORDERS = 500
# Of requests a second, against the same view without tenancy: what holds, and what would be good (decision 30)
AT_LEAST, WANTED = 0.9, 1.0
ORDER = {
    "currency": "EUR",
    "payment_token": "tok_ok",
    "lines": [
        {"description": "Widget", "quantity": 2, "unit_amount": 1234},
        {"description": "Freight", "quantity": 1, "unit_amount": 500},
    ],
}
NOTE = "gunicorn, 2 processes of 4 threads, 16 connections; no workers; DEBUG=0, throttles count"


def orders(world: World) -> Outcome:
    """Against the same view without tenancy, with plain dispatch."""
    with world.tenantry(["web", "relay"], count=TENANTS, tables=()) as ours, world.untenanted() as theirs:
        ours_requests, theirs_requests = order_requests(ours), order_requests(theirs)

        def placed(system: System, requests: list[str]) -> Answers:
            system.empty()
            with system.awake():
                send(system.port, requests, times=WARM_UP)
                answers = send(system.port, requests, times=ORDERS)
            system.check_dispatched(WARM_UP + ORDERS)
            return answers

        rounds = interleaved(lambda: placed(ours, ours_requests), lambda: placed(theirs, theirs_requests))
    parts = [compare("requests a second", rounds, lambda answers: answers.per_second, at_least=AT_LEAST), _p99(rounds)]
    return Outcome(parts, "ratio", {"note": NOTE, "wanted": WANTED, **_detail(rounds)})


def orders_black_hole(world: World) -> Outcome:
    """With the broker black-holed, against healthy."""
    with (
        Proxy(world.valkey.port) as hole,
        Proxy(world.valkey.port) as healthy,
        world.tenantry(["web"], count=TENANTS, tables=(), name="holed", valkey_port=hole.port) as ours,
        world.tenantry(["web"], count=TENANTS, tables=(), valkey_port=healthy.port) as theirs,
    ):
        ours_requests, theirs_requests = order_requests(ours), order_requests(theirs)
        hole.turn(Mode.HOLE)

        def placed(system: System, requests: list[str]) -> Answers:
            system.database.empty("jobs_job")
            with system.awake():
                answers = send(system.port, requests, times=ORDERS)
            system.check_dispatched(ORDERS)
            return answers

        # Each process finds out once.
        placed(ours, ours_requests)

        rounds = interleaved(lambda: placed(ours, ours_requests), lambda: placed(theirs, theirs_requests))
        hole.turn(Mode.PASS)
    return Outcome([_p99(rounds)], "ratio", {"note": NOTE, **_detail(rounds)})


def order_requests(system: System) -> list[str]:
    """An order for each of its tenants, by a user of its own, for `bench.load.send`."""
    tokens = system.call("log_in", homes=system.homes)
    # No host has underscores; without tenancy any of ours will do.
    hosts = {home: f"{home.replace('_', '-')}.localhost" for home in tokens}
    return [request("/api/v1/orders/", host=hosts[home], token=tokens[home], body=ORDER) for home in tokens]


def _p99(rounds: list[Round[Answers]]) -> Part:
    return compare("p99", rounds, lambda answers: answers.p99, at_most=1.1)


def _detail(rounds: list[Round[Answers]]) -> dict[str, float]:
    return {
        "ours, requests a second": median(round.ours.per_second for round in rounds),
        "theirs, requests a second": median(round.theirs.per_second for round in rounds),
        "ours, p99 in seconds": median(round.ours.p99 for round in rounds),
        "theirs, p99 in seconds": median(round.theirs.p99 for round in rounds),
    }
