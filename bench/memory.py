"""What processes keep in memory for themselves, their share of what they share included."""

import re
from pathlib import Path

PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def megabytes(group: int) -> float:
    """The proportional set size of a process group."""
    return sum(_kilobytes(process) for process in _members(group)) / 1024


def _members(group: int) -> list[Path]:
    return [stat.parent for stat in Path("/proc").glob("[0-9]*/stat") if _group_of(stat) == group]


def _group_of(stat: Path) -> int | None:
    try:
        # After the name, which may hold anything: state, parent, group.
        return int(stat.read_text().rpartition(")")[2].split()[2])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _kilobytes(process: Path) -> int:
    found = PSS.search((process / "smaps_rollup").read_text())
    assert found, f"no Pss in {process}"
    return int(found[1])
