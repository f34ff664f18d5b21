"""`make chaos-mutants`: each counter can go up. The product is broken in one place, and the scenario has to notice.

Prints mutant, scenario and which counters went up; exits with 1 if a mutant survives. ONLY=a,b picks mutants.
"""

import os
import signal
import sys
from dataclasses import dataclass, replace

from devstack.watchdog import watchdog
from tests.chaos.__main__ import stop
from tests.chaos.pace import SHORT
from tests.chaos.run import COUNTERS, play
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.world import World, new_world

PACE = replace(SHORT, patience=15)
SEED = 1
VERBOSE = "VERBOSE" in os.environ


@dataclass(frozen=True)
class Mutant:
    name: str
    scenario: str


MUTANTS = (
    Mutant("published-after-the-commit", "broker-down"),
    Mutant("send-deletes", "broker-emptied"),
    Mutant("never-sent-again", "broker-black-hole"),
    Mutant("refusals-end-workers", "redis-read-only"),
    Mutant("sense-unchecked", "malformed-messages"),
    Mutant("published-before-the-commit", "web-killed"),
    Mutant("completion-apart", "child-killed-atomic"),
    Mutant("failure-stored-by-parent", "child-killed-atomic"),
    Mutant("claim-deletes", "child-killed-leased-before-call"),
    Mutant("new-key-at-each-try", "child-killed-leased-after-call"),
    Mutant("completion-at-the-acknowledgement", "child-killed-after-commit"),
    Mutant("claim-keeps-next-send", "worker-killed"),
    Mutant("lost-is-poison", "worker-killed"),
    Mutant("never-sent-again", "relay-killed"),
    Mutant("sent-without-a-mark", "two-relays-two-workers"),
    Mutant("no-waking", "two-relays-two-workers"),
    Mutant("no-healing", "postgres-killed"),
    Mutant("claim-not-flushed", "postgres-killed"),
    Mutant("hand-back-counted", "postgres-cut"),
    Mutant("claim-repeated-with-another-token", "postgres-cut"),
    Mutant("failure-after-a-look", "postgres-cut"),
    Mutant("nothing-fenced", "delivered-twice"),
    Mutant("hand-back-by-id", "delivered-twice"),
    Mutant("claim-before-due", "delivered-early"),
    Mutant("claim-in-any-tenant", "tenant-suspended"),
    Mutant("no-unparking", "tenant-suspended"),
    Mutant("no-gate", "tenant-deleted"),
    Mutant("claim-deletes", "rolling-restart"),
    Mutant("kills-uncounted", "poison"),
    Mutant("poison-never-dead", "poison"),
    Mutant("hard-limit-unrecorded", "hard-limit"),
    Mutant("claim-by-the-workers-clock", "clock-skew"),
    Mutant("completion-unfenced", "worker-frozen"),
    Mutant("body-in-public", "two-relays-two-workers"),
    Mutant("no-cleaning", "careless-bodies"),
    Mutant("path-remembered", "careless-bodies"),
    Mutant("commit-unchecked", "careless-bodies"),
    Mutant("unbound-means-public", "careless-bodies"),
    Mutant("nothing-passes", "disk-full"),
    Mutant("lost-worker-keeps-its-locks", "host-vanished"),
    Mutant("renewal-asks-for-the-lease", "outage-30s"),
    Mutant("unknown-task-is-sent-ever-later", "rolling-deploy"),
    Mutant("run-noted-after-its-job", "beat-killed"),
    Mutant("run-noted-before-its-job", "beat-killed"),
    Mutant("run-taken-by-each-beat", "beat-killed"),
    Mutant("runs-pile-up", "beat-killed"),
)


def main() -> int:
    signal.signal(signal.SIGTERM, stop)
    only = {name.strip() for name in os.environ.get("ONLY", "").split(",") if name.strip()}
    chosen = [mutant for mutant in MUTANTS if not only or {mutant.name, mutant.scenario} & only]
    try:
        with new_world(PACE, spares=1 + sum(mutant.scenario == "tenant-deleted" for mutant in chosen)) as world:
            risen = [attack(mutant, world) for mutant in chosen]
    finally:
        watchdog().close()
    survived = risen.count({})
    up = [counter for counter in COUNTERS if any(counter in counters for counters in risen)]
    print(f"{len(chosen)} mutants, {survived} survived; what went up: {', '.join(up)}", flush=True)
    return 1 if survived or not chosen else 0


def attack(mutant: Mutant, world: World) -> dict[str, int]:
    """The counters that went up."""
    world.sabotage(CHAOS_MUTANT=mutant.name)
    result = play(world, SCENARIOS[mutant.scenario], mutant.scenario, SEED)
    risen = {counter: count for counter in COUNTERS if (count := getattr(result, counter))}
    verdict = ", ".join(f"{counter} {count}" for counter, count in risen.items())
    print(f"{mutant.name:36}{mutant.scenario:34}{verdict or f'SURVIVED {result.details[:2]}'}", flush=True)
    for detail in result.details if VERBOSE else []:
        print(f"    {detail}", flush=True)
    return risen


if __name__ == "__main__":
    sys.exit(main())
