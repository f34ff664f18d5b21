"""A reader deletes a feature by deleting its folder: the product works without billing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
# Those that start the product's processes, or migrate many schemas, take minutes, and say no more of this.
API = (
    "api/test_idempotency.py",
    "api/test_pages.py",
    "api/test_problems.py",
    "api/test_schema.py",
    "api/test_strict.py",
)
TENANTS = ("tenants/test_hosts.py", "tenants/test_schemas.py", "tenants/test_status.py")
JOBS = ("jobs/test_control.py", "jobs/test_lease.py", "jobs/test_outbox.py")
NOT_COPIED = shutil.ignore_patterns(".venv*", ".git", ".devstack", ".peers", "__pycache__", ".*_cache", ".env")
REST = ("accounts", *API, "isolation/test_complete.py", "notifications", *TENANTS, *JOBS)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(CHECKOUT, tmp_path / "copy", ignore=NOT_COPIED)


def test_the_rest_passes_its_tests_without_billing(copy: Path) -> None:
    for folder in ("billing", "tests/billing"):
        shutil.rmtree(copy / folder)
    for module in (copy / "config").glob("*.py"):
        lines = module.read_text().splitlines(keepends=True)
        module.write_text("".join(line for line in lines if not _of_billing(line)))

    command = [sys.executable, "-m", "devstack", "test", "--", "python", "-m", "pytest", "-q", "-x"]
    command += [f"tests/{part}" for part in REST]
    # A test that needs billing is skipped there.
    env = {**os.environ, "PYTHONPATH": "", "REQUIRE_TOOLS": ""}
    run = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)

    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]


def _of_billing(line: str) -> bool:
    return bool(re.search(r"\bbilling\b|\b(Order|Invoice|Payment)ViewSet\b|/(orders|invoices|payments)/", line))
