"""The figures, by name; each a function that measures one row of the table in docs/explanation/performance.md."""

from collections.abc import Callable

from bench.figures import (
    durable,
    fairness,
    http,
    latency,
    memory,
    plain,
    postgresql_peers,
    scale,
    schemas,
    steady,
)
from bench.statistics import Outcome
from bench.world import World

FIGURES: dict[str, Callable[[World], Outcome]] = {
    figure.__name__.replace("_", "-"): figure
    for figure in (
        plain.plain_task_shipped,
        plain.plain_task_tenant_schemas,
        plain.plain_task_tuned,
        durable.durable_drain,
        durable.durable_dispatch,
        durable.map_on_commit,
        http.orders,
        http.orders_black_hole,
        latency.commit_to_start,
        latency.host_lost,
        schemas.new_schema,
        schemas.migrate_tenants,
        fairness.noisy_neighbour,
        fairness.noisy_alone,
        scale.fan_out,
        scale.durable_cost,
        steady.steady,
        memory.memory,
        postgresql_peers.peers_drain,
        postgresql_peers.peers_idle,
        postgresql_peers.peers_killed,
    )
}
