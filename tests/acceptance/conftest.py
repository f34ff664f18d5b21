"""The whole product as its Procfile starts it, on the servers of this run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from django.db import connection
from pytest_django.plugin import DjangoDbBlocker

from devstack.ports import free_port
from devstack.processes import Process
from tests.conftest import empty_database


@pytest.fixture(scope="module")
def product(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Real web, worker, relay and beat, for a module's tests; the port of web. The database is emptied afterwards."""
    with django_db_blocker.unblock():
        with running_product(tmp_path_factory.mktemp("product")) as port:
            yield port
        empty_database()
        connection.close()


def environment(port: int) -> dict[str, str]:
    """For processes whose web listens on this port."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.recorded_settings",
        "DEBUG": "1",
        "PORT": str(port),
        "SPARE_SCHEMAS": "1",
        "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port} --threads=4",
    }


@contextmanager
def running_product(folder: Path) -> Iterator[int]:
    port = free_port()
    env = environment(port)

    def is_live() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    with ExitStack() as processes:
        for name in ("web", "worker", "relay", "beat"):
            log = folder / f"{name}.log"
            process = Process.from_procfile(name, log=log, env=env, ready=is_live if name == "web" else lambda: True)
            processes.enter_context(process)
        yield port
