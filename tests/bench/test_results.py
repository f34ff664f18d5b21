"""results.json, as others read it."""

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from bench import results
from bench.__main__ import chosen
from bench.figures import FIGURES
from bench.statistics import Outcome, Part
from devstack import CHECKOUT

PAGE = CHECKOUT / "docs/explanation/performance.md"
STALE = (
    "bench/results.json is of another run than the page: update that, or `git checkout bench` if you were just trying"
)
GOOD = Part("rate", [3.0, 3.2, 3.1], [1.0, 1.02, 0.97], target=3, at_least=True)
REPORTED = Part("rate", [0.6], [1.02], target=None, at_least=True)
BAD = Part("p99", [1.5], [1.0], target=1.1, at_least=False)


def test_the_file_has_machine_versions_and_an_entry_for_each_figure(tmp_path: Path) -> None:
    file = tmp_path / "results.json"

    results.write({"drain": Outcome([GOOD], "times as many", {"note": "so", "ours": 712.3456})}, file)

    report = json.loads(file.read_text())
    assert set(report) == {"machine", "versions", "figures"}
    assert report["machine"]["cores"] > 0
    assert report["versions"]["celery"]
    [entry] = report["figures"]
    assert {name: entry[name] for name in entry if name != "detail"} == {
        "figure": "drain",
        "value": 3.1,
        "target": 3,
        "holds": True,
        "spread": 0.02,
        "unit": "times as many",
    }
    assert entry["detail"]["note"] == "so"
    assert entry["detail"]["ours"] == 712.3


def test_what_was_not_measured_this_time_stays(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    drain, orders = Outcome([GOOD], "times as many"), Outcome([GOOD], "ratio")

    results.write({"drain": drain, "orders": orders}, file)
    results.write({"drain": Outcome([BAD], "times as many")}, file)

    figures = json.loads(file.read_text())["figures"]
    assert [(figure["figure"], figure["value"]) for figure in figures] == [("drain", 1.5), ("orders", 3.1)]


def test_nothing_stays_of_other_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results.json"
    results.write({"orders": Outcome([GOOD], "ratio")}, file)

    monkeypatch.setattr(results, "versions", lambda: {"celery": "6"})
    results.write({"drain": Outcome([GOOD], "times as many")}, file)

    assert [figure["figure"] for figure in json.loads(file.read_text())["figures"]] == ["drain"]


def test_a_figure_of_several_parts_shows_the_one_that_fails() -> None:
    entry = results.entry("orders", Outcome([GOOD, BAD], "ratio"))

    assert (entry["value"], entry["target"], entry["holds"]) == (1.5, 1.1, False)
    assert [(part["part"], part["bound"], part["holds"]) for part in entry["detail"]["parts"]] == [
        ("rate", "at least", True),
        ("p99", "at most", False),
    ]


def test_the_table_has_a_line_for_each_part_of_several() -> None:
    one = results.lines("drain", Outcome([GOOD], "ratio"), seconds=12)
    two = results.lines("orders", Outcome([GOOD, BAD], "ratio"), seconds=12)

    assert one.split() == ["drain", "3.100", "≥", "3", "0.020", "yes", "12", "s"]
    assert [line.split()[0] for line in two.splitlines()] == ["orders", "rate", "p99"]
    assert "NO" in two.splitlines()[0]


def test_what_is_reported_only_says_so() -> None:
    line = results.lines("peers-drain", Outcome([REPORTED], "ratio"), seconds=12)
    entry = results.entry("peers-drain", Outcome([REPORTED], "ratio"))

    assert line.split() == ["peers-drain", "0.600", "-", "0.020", "reported", "12", "s"]
    assert (entry["value"], entry["target"], entry["holds"]) == (0.6, None, True)


def test_only_picks_figures_by_name() -> None:
    first, second, *_ = FIGURES

    assert chosen("") == list(FIGURES)
    assert chosen(f"{second}, {first}") == [second, first]
    with pytest.raises(SystemExit, match="no-such-figure"):
        chosen(f"{first},no-such-figure")


def test_the_page_shows_the_figures_of_the_file() -> None:
    page, report = PAGE.read_text(), json.loads(results.FILE.read_text())
    parts = [(figure["figure"], part) for figure in report["figures"] for part in figure["detail"]["parts"]]
    own = [(name, part) for name, part in parts if not name.startswith("peers-")]

    shown = [(name, *numbers) for name, _, *numbers in _table(page, "## The figures")]

    assert [figure["figure"] for figure in report["figures"]] == list(FIGURES), STALE
    assert shown == [(f"`{name}`", *_shown(part)) for name, part in own], STALE
    assert [name for name in FIGURES if f"](../../bench/plots/{name}.svg)" not in page] == []


def test_the_page_shows_what_peers_did() -> None:
    page, report = PAGE.read_text(), json.loads(results.FILE.read_text())
    parts = {figure["figure"]: figure["detail"]["parts"] for figure in report["figures"]}
    drain, idle, killed = (
        [f"{part['value']:.3g}" for part in parts[f"peers-{name}"]] for name in ("drain", "idle", "killed")
    )

    shown = {name: cells for name, *cells in _table(page, "## Peers on PostgreSQL")}

    assert shown["`peers-drain`: Tenantry's rate against theirs"] == ["", *drain], STALE
    assert shown["`peers-idle`: Tenantry's p95 against theirs"] == ["", *idle], STALE
    assert shown["`peers-killed`: effects lost, of 2,000"] == killed[::3], STALE
    assert shown["… effects twice"] == killed[1::3], STALE


def _table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    lines = page.split(f"\n{heading}\n")[1].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = takewhile(lambda line: line.startswith("|"), lines[first + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _shown(part: dict[str, Any]) -> tuple[str, str, str, str]:
    bound = "≥" if part["bound"] == "at least" else "≤"
    target = "" if part["target"] is None else f"{bound} {part['target']:g}"
    holds = "reported" if part["target"] is None else "yes" if part["holds"] else "no"
    return f"{part['value']:.3g}", target, f"{part['spread']:.2g}", holds
