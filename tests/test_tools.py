"""A test that needs a missing program says so: as a skip on a developer's machine, as a failure in CI."""

import os
import subprocess
import sys
from pathlib import Path

from devstack import CHECKOUT

TESTS = """\
import pytest

@pytest.mark.needs("sh")
def test_with_a_shell():
    pass

@pytest.mark.needs("no-such-tool")
def test_with_another_tool():
    pass

@pytest.mark.skip(reason="for another reason")
def test_that_is_skipped():
    pass

@pytest.mark.xfail
def test_that_is_known_to_fail():
    assert False
"""
SKIPPED_MODULE = """\
import pytest

pytest.skip("the whole module", allow_module_level=True)
"""


def run_pytest(folder: Path, **environ: str) -> tuple[int, str]:
    """The exit code and the output of a run of these tests alone."""
    (folder / "pytest.ini").touch()
    (folder / "test_needs.py").write_text(TESTS)
    (folder / "test_skipped_module.py").write_text(SKIPPED_MODULE)
    command = [sys.executable, "-m", "pytest", "-rs", "--continue-on-collection-errors"]
    command += ["-p", "tests.tools", "-p", "no:django", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "REQUIRE_TOOLS": "", **environ}
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    return run.returncode, run.stdout


def test_without_a_tool_a_test_is_skipped_with_a_line_that_names_it(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path)

    assert code == 0
    assert "no-such-tool is not installed" in output
    assert "1 passed, 3 skipped, 1 xfailed" in output


def test_where_tools_are_required_every_skip_is_an_error(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, REQUIRE_TOOLS="1")

    assert code == 1
    for reason in ("no-such-tool is not installed", "for another reason", "the whole module"):
        assert f"REQUIRE_TOOLS=1 allows no skipped test. Skipped: {reason}" in output
    assert "1 passed, 1 xfailed, 3 errors" in output
