"""Runs lines of the Procfile under honcho, each of them enrolled with a watchdog.

`honcho start` itself would run `release` as a server, add 100 to PORT for each process type, and put its children into
sessions of their own, which nobody finds again after a `kill -9`.
"""

import os
import sys
from pathlib import Path

from honcho.environ import parse_procfile
from honcho.manager import Manager

from devstack import CHECKOUT
from devstack.watchdog import enrolling


def commands() -> dict[str, str]:
    return dict(parse_procfile((CHECKOUT / "Procfile").read_text()).processes)


def main(pipe: Path, names: list[str]) -> int:
    manager = Manager()
    lines = commands()
    for name in names:
        manager.add_process(name, enrolling(lines[name], pipe), env=dict(os.environ), cwd=str(CHECKOUT))
    manager.loop()
    return int(manager.returncode or 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
