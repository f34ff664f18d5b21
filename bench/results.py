"""What is told of the figures: a table for who watches, results.json for who reads it later."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.statistics import Outcome, Part

FILE = Path(__file__).parent / "results.json"
HEADING = f"{'figure':44}{'value':>9}{'target':>10}{'spread':>9}  holds"
PACKAGES = ("Django", "celery", "kombu", "django-tenants", "django-celery-results", "psycopg", "redis", "gunicorn")


def lines(name: str, outcome: Outcome, *, seconds: float) -> str:
    """A line for the figure, and one for each part where there are several."""
    told = [f"{_line(name, outcome.worst, outcome.holds)}   {seconds:.0f} s"]
    if len(outcome.parts) > 1:
        told += [_line(f"  {part.name}", part, part.holds) for part in outcome.parts]
    return "\n".join(told)


def _line(name: str, part: Part, holds: bool) -> str:
    if part.target is None:
        return f"{name:44}{part.value:9.3f}{'-':>10}{part.spread:9.3f}  reported"
    target = f"{'≥' if part.at_least else '≤'} {part.target:g}"
    return f"{name:44}{part.value:9.3f}{target:>10}{part.spread:9.3f}  {'yes' if holds else 'NO'}"


def write(outcomes: Mapping[str, Outcome], file: Path = FILE) -> None:
    """Figures that were not measured this time stay as they are, if that was on this machine with these versions."""
    report: dict[str, Any] = {"machine": machine(), "versions": versions()}
    before = json.loads(file.read_text()) if file.exists() else {}
    same = all(before.get(key) == value for key, value in report.items())
    entries = {figure["figure"]: figure for figure in before["figures"]} if same else {}
    entries |= {name: entry(name, outcome) for name, outcome in outcomes.items()}
    report["figures"] = list(entries.values())
    file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def entry(name: str, outcome: Outcome) -> dict[str, Any]:
    """`value`, `target` and `spread` are those of the part that is nearest to failing; `detail` has all parts.

    What has no target is reported only: `target` is null, and it holds.
    """
    worst = outcome.worst
    return {
        "figure": name,
        "value": _rounded(worst.value),
        "target": worst.target,
        "holds": outcome.holds,
        "spread": _rounded(worst.spread),
        "unit": outcome.unit,
        "detail": _rounded({"parts": [_part(part) for part in outcome.parts], **outcome.detail}),
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "part": part.name,
        "value": part.value,
        "target": part.target,
        "bound": "at least" if part.at_least else "at most",
        "holds": part.holds,
        "spread": part.spread,
        "values": list(part.values),
        "nulls": list(part.nulls),
    }


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.4g}")
        case list():
            return [_rounded(item) for item in value]
        case dict():
            return {name: _rounded(item) for name, item in value.items()}
    return value


def machine() -> dict[str, Any]:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {"cpu": _cpu(), "cores": os.cpu_count(), "memory_gb": round(pages * size / 1e9), "os": platform.platform()}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return models[0] if models else platform.machine()


def versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
