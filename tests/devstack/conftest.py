import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import CHECKOUT
from devstack.servers import Stack, temporary_stack

NOT_COPIED = shutil.ignore_patterns(".venv*", ".git", ".devstack", "__pycache__", ".*_cache", ".env", "tests")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Embedded servers of these tests' own, whatever DATABASE_URL says: they are stopped and killed here."""
    with temporary_stack() as stack:
        yield stack


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy, for tests of `make run`: this checkout may have one up, and a second one is refused."""
    copy = tmp_path / "a checkout"
    shutil.copytree(CHECKOUT, copy, ignore=NOT_COPIED)
    yield copy
    subprocess.run([sys.executable, "-m", "devstack", "clean"], cwd=copy, check=True)
