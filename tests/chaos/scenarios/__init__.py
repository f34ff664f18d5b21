"""The scenarios, by name; each a function that breaks something under load, at moments that the seed decides."""

from collections.abc import Callable

from tests.chaos.run import Run
from tests.chaos.scenarios import (
    bodies,
    broker,
    children,
    database,
    endings,
    messages,
    outages,
    processes,
    schedules,
    tenants,
)

Scenario = Callable[[Run], None]

SCENARIOS: dict[str, Scenario] = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        broker.broker_down,
        broker.broker_emptied,
        broker.broker_black_hole,
        broker.redis_read_only,
        broker.malformed_messages,
        processes.web_killed,
        children.child_killed_atomic,
        children.child_killed_leased_before_call,
        children.child_killed_leased_after_call,
        children.child_killed_after_commit,
        processes.worker_killed,
        processes.relay_killed,
        processes.two_relays_two_workers,
        database.postgres_killed,
        database.postgres_cut,
        messages.delivered_twice,
        messages.delivered_early,
        tenants.tenant_suspended,
        tenants.tenant_deleted,
        processes.rolling_restart,
        endings.poison,
        endings.hard_limit,
        messages.clock_skew,
        processes.worker_frozen,
        bodies.careless_bodies,
        outages.disk_full,
        outages.host_vanished,
        outages.outage_30s,
        processes.rolling_deploy,
        schedules.beat_killed,
    )
}
