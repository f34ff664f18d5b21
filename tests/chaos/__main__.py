"""`make chaos`: every scenario in full, a table, and chaos.json. SEED= reproduces a run, ONLY=a,b picks scenarios.

BROKER=rabbitmq plays those that are about the broker, or a worker that it must not lose, on RabbitMQ.
"""

import json
import os
import random
import signal
import sys
import time
from typing import NoReturn

from devstack import CHECKOUT
from devstack.watchdog import watchdog
from tests.chaos.pace import LONG, SHORT
from tests.chaos.rabbitmq import ON_RABBITMQ, new_rabbitmq_world
from tests.chaos.run import COUNTERS, Result, play
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.chaos.world import new_world

REPORT = CHECKOUT / "chaos.json"
COLUMNS = ("jobs", *COUNTERS, "recovered_s")
SHOWN = 12


def main() -> int:
    REPORT.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, stop)
    seed = int(os.environ.get("SEED") or random.randrange(2**31))
    on_rabbitmq = os.environ.get("BROKER") == "rabbitmq"
    scenarios = chosen(os.environ.get("ONLY", "") or (",".join(ON_RABBITMQ) if on_rabbitmq else ""))
    pace = SHORT if os.environ.get("PACE") == "short" else LONG
    say(f"SEED={seed}\n{head()}")
    started = time.monotonic()
    try:
        with (new_rabbitmq_world if on_rabbitmq else new_world)(pace) as world:
            say(f"ready after {time.monotonic() - started:.0f} s")
            results = [_played(play(world, scenario, name, seed)) for name, scenario in scenarios.items()]
    finally:
        watchdog().close()
    report = {"seed": seed, "scenarios": [result.row() for result in results]}
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    failed = [result.name for result in results if result.failed]
    say(f"{len(results)} scenarios in {time.monotonic() - started:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if failed or not results else 0


def chosen(only: str) -> dict[str, Scenario]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        sys.exit(f"ONLY names no scenario: {', '.join(sorted(unknown))}. There are: {', '.join(SCENARIOS)}")
    return {name: SCENARIOS[name] for name in names}


def _played(result: Result) -> Result:
    say(lines(result))
    return result


def head() -> str:
    return f"{'scenario':34}{''.join(f'{column:>12}' for column in COLUMNS)}"


def lines(result: Result) -> str:
    """Its row, and what was found."""
    row = result.row()
    more = [f"and {len(result.details) - SHOWN} more"] if len(result.details) > SHOWN else []
    told = [f"\n    {detail}" for detail in [*result.details[:SHOWN], *more]]
    return "".join([f"{result.name:34}", *(f"{row[column]!s:>12}" for column in COLUMNS), *told])


def say(text: str) -> None:
    print(text, flush=True)


def stop(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
