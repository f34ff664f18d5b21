"""`make chaos-mutants`: each counter can go up. The product is broken in one place, and the scenario has to notice.

Where a break changes whose turn it is, and no count, a module of tests has to. Prints mutant, scenario and which
counters went up; exits with 1 if a mutant survives. ONLY=a,b picks mutants.
"""

import os
import signal
import subprocess
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
    scenario: str  # or the path of a module of tests


FAIR_SHARE = "tests/jobs/test_fair_share.py"
MUTANTS = (
    Mutant("published-after-the-commit", "broker-down"),
    Mutant("send-deletes", "broker-emptied"),
    Mutant("never-sent-again", "broker-emptied"),
    Mutant("published-after-the-commit", "broker-black-hole"),
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
    Mutant("claim-not-flushed", "postgres-killed"),
    Mutant("hand-back-counted", "postgres-cut"),
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
    Mutant("no-retag", FAIR_SHARE),
    Mutant("virtual-time-falls", FAIR_SHARE),
    Mutant("wake-by-due-time", FAIR_SHARE),
    Mutant("park-by-eight", FAIR_SHARE),
    Mutant("notify-always", "tests/jobs/test_wakeup.py"),
)
#: Of pytest: tests ran, and some failed.
TESTS_FAILED = 1


def main() -> int:
    signal.signal(signal.SIGTERM, stop)
    only = {name.strip() for name in os.environ.get("ONLY", "").split(",") if name.strip()}
    chosen = [mutant for mutant in MUTANTS if not only or {mutant.name, mutant.scenario} & only]
    by_tests = [mutant for mutant in chosen if mutant.scenario not in SCENARIOS]
    by_counts = [mutant for mutant in chosen if mutant not in by_tests]
    survived = [fails(mutant) for mutant in by_tests].count(False)
    risen = _attack_all(by_counts) if by_counts else []
    survived += risen.count({})
    up = [counter for counter in COUNTERS if any(counter in counters for counters in risen)]
    print(f"{len(chosen)} mutants, {survived} survived; what went up: {', '.join(up)}", flush=True)
    return 1 if survived or not chosen else 0


def _attack_all(mutants: list[Mutant]) -> list[dict[str, int]]:
    try:
        with new_world(PACE, spares=1 + sum(mutant.scenario == "tenant-deleted" for mutant in mutants)) as world:
            return [attack(mutant, world) for mutant in mutants]
    finally:
        watchdog().close()


def fails(mutant: Mutant) -> bool:
    """Whether a test of its module does."""
    pytest = ["python", "-m", "pytest", "-q", "-x", "-p", "tests.chaos.plugin", mutant.scenario]
    run = subprocess.run(
        [sys.executable, "-m", "devstack", "test", "--", *pytest],
        env={**os.environ, "CHAOS_MUTANT": mutant.name, "CHAOS_FOLDER": os.devnull},
        capture_output=True,
        text=True,
    )
    failed = [line for line in run.stdout.splitlines() if line.startswith("FAILED")]
    verdict = failed[0].split("::")[-1].split(" - ")[0] if run.returncode == TESTS_FAILED and failed else ""
    print(f"{mutant.name:36}{mutant.scenario:34}{verdict or f'SURVIVED {run.stdout[-300:]}'}", flush=True)
    return bool(verdict)


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
