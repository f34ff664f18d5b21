"""Gives each worker of pytest-xdist a database and a Redis key prefix of its own.

pytest loads it with `-p tests.parallel`, before pytest-django reads the settings. Both names begin with those of the
run, which `python -m devstack test` removes at its end.
"""

import os
from collections.abc import Callable, Generator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from devstack.external import create_database

# Removed, because a pytest that a test starts is no worker of this run.
WORKER = os.environ.pop("PYTEST_XDIST_WORKER", "")
RUN_URL = os.environ.get("DATABASE_URL", "")
# Who makes databases: the run's own role, if it is given no other.
CREATOR_URL = os.environ.get("DATABASE_SUPERUSER_URL") or RUN_URL
RUN_NAME = urlsplit(RUN_URL).path[1:]
FILLED_NAME = f"{RUN_NAME}_filled"
WORKER_NAME = f"{RUN_NAME}_{WORKER}"

if WORKER:
    os.environ["DATABASE_URL"] = urlunsplit(urlsplit(RUN_URL)._replace(path=f"/{WORKER_NAME}"))
    os.environ["REDIS_KEY_PREFIX"] += f"{WORKER}:"

# More would only wait for the longest module.
MOST_WORKERS = 8


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many `-n auto` starts: two for each core, because tests wait much. A few tests start sooner without any."""
    if config.option.keyword or "::" in "".join(config.args):
        return 0
    return min(2 * (os.cpu_count() or 1), MOST_WORKERS)


def provide_database(fill: Callable[[], None]) -> None:
    """Fills this process's database. The first worker calls `fill`, and the others copy what it made.

    `fill` leaves no connection open: PostgreSQL copies a database only while nobody uses it.
    """
    if not WORKER:
        fill()
        return
    with psycopg.connect(RUN_URL, autocommit=True) as run:
        run.execute("SELECT pg_advisory_lock(1)")
        if run.execute("SELECT FROM pg_database WHERE datname = %s", [FILLED_NAME]).rowcount:
            _copy(FILLED_NAME, WORKER_NAME, owner=run.info.user)
        else:
            _copy("template1", WORKER_NAME, owner=run.info.user)
            fill()
            _copy(WORKER_NAME, FILLED_NAME, owner=run.info.user)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Workers send their reports as UTF-8, and tests log characters that UTF-8 does not have."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


def _copy(template: str, name: str, *, owner: str) -> None:
    with psycopg.connect(CREATOR_URL, autocommit=True) as creator:
        create_database(creator, name, template=template, owner=owner)
