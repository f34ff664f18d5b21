"""Real workers and relays, for tests that see what they do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app

from devstack.processes import Process, wait_until
from tests.jobs import probes

DEADLINE = 30


@pytest.fixture
def start_worker(committed_db: None, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts real workers that know the probes; they end with the test."""
    workers: list[Process] = []

    def start(*arguments: str, **environ: str) -> Process:
        name = f"w{len(workers)}-{tmp_path.name}"
        command = ["celery", "-A", "config", "worker", "-l", "INFO", "--include", "tests.jobs.probes", "-n", name]
        command += arguments or ("-c", "2")
        worker = Process(
            name, command, log=tmp_path / f"{name}.log", env=environ, ready=lambda: " ready." in worker.output
        )
        workers.append(worker.start())
        return worker

    yield start
    for worker in workers:
        worker.stop()
    current_app.control.purge()


@pytest.fixture
def worker(start_worker: Callable[..., Process]) -> Process:
    return start_worker()


@pytest.fixture
def relay(committed_db: None, tmp_path: Path) -> Iterator[Process]:
    with Process("relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log") as relay:
        yield relay


@pytest.fixture(autouse=True)
def _no_notes() -> Iterator[None]:
    probes.broker().delete(probes.RAN)
    yield


def eventually(condition: Callable[[], Any], what: str, *, seconds: float = DEADLINE) -> None:
    wait_until(lambda: bool(condition()), seconds=seconds, what=what)
