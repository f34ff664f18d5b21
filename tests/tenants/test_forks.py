"""A process that forks keeps its database sessions, those of its other threads too."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tenants.binding import bind_to_public
from tenants.connection import connection
from tests.jobs.durables import sql

pytestmark = pytest.mark.usefixtures("committed_db")


def pid_of_session() -> int:
    bind_to_public()
    [[pid]] = sql("SELECT pg_backend_pid()")
    return int(pid)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_fork_does_not_end_the_session_of_another_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(pid_of_session).result()
        child = os.fork()
        if child == 0:
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        assert pool.submit(pid_of_session).result() == before
        pool.submit(lambda: connection.close()).result()
