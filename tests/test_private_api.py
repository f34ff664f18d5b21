"""Private names of libraries are used where a test watches them, and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

from devstack import CHECKOUT

ROOMS = ("config", "accounts", "billing", "notifications", "idempotency", "jobs", "limits", "tenants")
# tests/jobs/test_private_api.py and tests/tenants/test_private_api.py watch what these use, and of the last one
# tests/api/test_over_a_socket.py.
WATCHED = ("jobs/celery_hooks/", "jobs/worker/", "tenants/postgresql/", "config/gunicorn.py")
# A documented API, whatever its name looks like.
DOCUMENTED = ("_meta", "_replace", "_exit")


def private_names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        owner = node.value
        ours = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
        if not ours and node.attr not in DOCUMENTED:
            yield f"{file.relative_to(CHECKOUT)}:{node.lineno} {ast.unparse(node)}"


def files() -> Iterator[Path]:
    for room in ROOMS:
        for file in sorted((CHECKOUT / room).rglob("*.py")):
            if "migrations" not in file.parts:
                yield file


def test_private_names_of_libraries_are_used_in_few_places_alone() -> None:
    found = [name for file in files() for name in private_names(file)]
    assert [name for name in found if not name.startswith(WATCHED)] == []
