"""What a test needs beyond Python and make: `@pytest.mark.needs("pgbouncer")`.

Such a test is skipped where the program is missing. With REQUIRE_TOOLS=1 every skipped test fails, whatever its reason.
pytest loads this with `-p tests.tools`.
"""

import os
import shutil
from collections.abc import Generator
from typing import TypeVar

import pytest

REQUIRE_TOOLS = os.environ.get("REQUIRE_TOOLS") == "1"
# Debian's places for servers, which are not in everybody's PATH. In the first one is a RabbitMQ that starts as anybody.
PATH = os.pathsep.join(["/usr/lib/rabbitmq/bin", os.environ.get("PATH", os.defpath), "/usr/sbin"])

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def find_tool(name: str) -> str | None:
    return shutil.which(name, path=PATH)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): the test is skipped where one of these is not installed")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if find_tool(name) is None:
                pytest.skip(f"{name} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _fail_if_skipped((yield))


def _fail_if_skipped(report: Report) -> Report:
    """An expected failure is no skip: it has no place and reason, but a traceback."""
    if REQUIRE_TOOLS and report.skipped and isinstance(report.longrepr, tuple):
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_TOOLS=1 allows no skipped test. {report.longrepr[2]}"
    return report
