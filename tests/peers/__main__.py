"""`make chaos-peers`: the scenarios against the peers, a table for each, and chaos-peers.json.

SEED= reproduces a run, ONLY=a,b picks scenarios, PEERS=plain_celery picks peers.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from devstack import CHECKOUT
from devstack.watchdog import watchdog
from tests.chaos.__main__ import chosen, head, lines, say, stop
from tests.chaos.pace import LONG
from tests.chaos.run import play
from tests.chaos.scenarios import SCENARIOS
from tests.peers.books import PeerBooks
from tests.peers.peer import PLAIN_CELERY, TENANT_SCHEMAS, Peer
from tests.peers.profiles import profiles
from tests.peers.scenarios import not_applicable, scenarios_of
from tests.peers.world import PeerWorld, new_world

REPORT = CHECKOUT / "chaos-peers.json"
PEERS = (PLAIN_CELERY, TENANT_SCHEMAS)
# The patience suffices for each of the peers' time-outs but one, which is an hour.
PACE = replace(
    LONG,
    soft_limit=2,
    hard_limit=3,
    orders=2,
    probes=2,
    spread=3,
    strikes=3,
    broker_down=8,
    broker_hole=8,
    postgres_down=3,
    waiting=100,
    patience=60,
    placing=8,
)


def main() -> int:
    REPORT.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, stop)
    seed = int(os.environ.get("SEED") or 1)
    only = chosen(os.environ.get("ONLY", ""))
    started = time.monotonic()
    try:
        columns = [column for peer in _peers() for column in _played(peer, set(only), seed)]
    finally:
        watchdog().close()
    REPORT.write_text(json.dumps({"seed": seed, "columns": columns}, indent=2) + "\n")
    say(f"\n{time.monotonic() - started:.0f} s")
    return 0


def _peers() -> list[Peer]:
    names = [name for name in os.environ.get("PEERS", "").split(",") if name]
    return [peer for peer in PEERS if not names or peer.name in names]


def _played(peer: Peer, only: set[str], seed: int) -> Iterator[dict[str, Any]]:
    with new_world(peer, PACE, spares=len(profiles(PACE))) as world:
        for profile in profiles(PACE):
            say(f"\n{peer.title} {peer.version()}, {profile.name}\n{head()}")
            world.configure(profile.environ, **profile.settings)
            rows = [_row(world, name, seed) for name in SCENARIOS if name in only]
            yield {"peer": peer.title, "version": peer.version(), "profile": profile.name, "scenarios": rows}


def _row(world: PeerWorld, name: str, seed: int) -> dict[str, Any]:
    scenarios = scenarios_of(world.peer)
    if name not in scenarios:
        reason = not_applicable(world.peer, name)
        say(f"{name:34}{'-':>12} {reason}")
        return {"name": name, "not_applicable": reason}
    result = play(world, scenarios[name], name, seed, books=PeerBooks)
    if result.lost or result.stuck:
        result.recovered_s = None
    say(lines(result))
    return {**result.row(), "asked": result.asked, "unserved": result.unserved, "details": result.details}


if __name__ == "__main__":
    sys.exit(main())
