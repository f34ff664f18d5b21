"""`python -m tests.peers.table`: both reports side by side, as docs/reference/promise.md shows them."""

import json
from typing import Any

from tests.chaos.__main__ import REPORT as OWN
from tests.chaos.run import COUNTERS
from tests.peers.__main__ import REPORT as PEERS

Row = dict[str, Any]


def main() -> None:
    columns = {"Tenantry": json.loads(OWN.read_text())["scenarios"]}
    for column in json.loads(PEERS.read_text())["columns"]:
        columns[f"{column['peer']}, {column['profile']}"] = column["scenarios"]
    print(_line(["scenario", *columns]))
    print(_line(["---"] * (1 + len(columns))))
    for name in [row["name"] for row in columns["Tenantry"]]:
        print(_line([f"`{name}`", *(_cell(name, rows) for rows in columns.values())]))


def _cell(name: str, rows: list[Row]) -> str:
    [row] = [row for row in rows if row["name"] == name]
    if "jobs" not in row:
        return "n/a"
    found = [f"**{row[counter]} {counter}**" for counter in COUNTERS if row[counter]]
    unserved = f"; {row['unserved']} of {row['asked']} requests failed or slow" if row.get("unserved") else ""
    return f"{', '.join(found) or '0'} of {row['jobs']}{unserved}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
