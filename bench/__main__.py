"""`make bench`: every figure, a table, bench/results.json and a plot for each. ONLY=a,b picks figures."""

import os
import signal
import sys
import time
from typing import NoReturn

from bench import plots, results
from bench.figures import FIGURES
from bench.statistics import Outcome
from bench.world import World, new_world
from devstack.watchdog import watchdog


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)
    os.environ.setdefault("SECRET_KEY", "bench")  # for config.settings, which peers are tuned by
    names = chosen(os.environ.get("ONLY", ""))
    began = time.monotonic()
    print(results.HEADING, flush=True)
    try:
        with new_world() as world:
            outcomes = {name: _measured(world, name) for name in names}
    finally:
        watchdog().close()
    results.write(outcomes)
    plots.write(outcomes)
    failed = [name for name, outcome in outcomes.items() if not outcome.holds]
    print(f"{len(outcomes)} figures in {time.monotonic() - began:.0f} s; missed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def chosen(only: str) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(FIGURES)
    if unknown := set(names) - set(FIGURES):
        sys.exit(f"ONLY names no figure: {', '.join(sorted(unknown))}. There are: {', '.join(FIGURES)}")
    return names


def _measured(world: World, name: str) -> Outcome:
    began = time.monotonic()
    outcome = FIGURES[name](world)
    print(results.lines(name, outcome, seconds=time.monotonic() - began), flush=True)
    return outcome


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
