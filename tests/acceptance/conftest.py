"""The whole product as its Procfile starts it, on the servers of this run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from devstack.ports import free_port
from devstack.processes import Process


@pytest.fixture
def product(committed_db: None, tmp_path: Path) -> Iterator[int]:
    """Real web, worker, relay and beat; the port of web."""
    port = free_port()
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.recorded_settings",
        "DEBUG": "1",
        "PORT": str(port),
        "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port} --threads=4",
    }

    def is_live() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    with ExitStack() as processes:
        for name in ("web", "worker", "relay", "beat"):
            log = tmp_path / f"{name}.log"
            process = Process.from_procfile(name, log=log, env=env, ready=is_live if name == "web" else lambda: True)
            processes.enter_context(process)
        yield port
