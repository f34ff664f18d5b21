"""The product behind PgBouncer, as its Procfile starts it."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from devstack.cards import Gateway, Ledger
from devstack.ports import free_port
from devstack.processes import Process
from tenants.models import Domain, Tenant
from tenants.services import create_schema
from tests.poolers.pgbouncer import Pooler


@pytest.fixture
def initech(committed_db: None) -> Tenant:
    """A third tenant."""
    tenant = Tenant.objects.create(slug="initech", name="Initech", schema_name="initech_1", status="active")
    Domain.objects.create(tenant=tenant, domain="initech.localhost", is_primary=True)
    create_schema(tenant)
    return tenant


Start = Callable[..., AbstractContextManager["Product"]]


class Product:
    """What runs behind a pooler."""

    def __init__(self, port: int, cards: Ledger, processes: dict[str, Process]) -> None:
        self.port = port
        self.cards = cards
        self.processes = processes

    def logs(self) -> str:
        return "".join(process.output for process in self.processes.values())


@pytest.fixture
def product(committed_db: None, tmp_path: Path) -> Start:
    """Starts web, worker and relay behind a pooler; their direct URL leads past it."""

    @contextmanager
    def product(pooler: Pooler, **environ: str) -> Iterator[Product]:
        port = free_port()
        env = {
            **os.environ,
            "DEBUG": "1",
            "DATABASE_URL": pooler.url,
            "DATABASE_DIRECT_URL": os.environ["DATABASE_URL"],
            "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port} --threads=4 --workers=2",
            "LOG_JSON": "1",
            **environ,
        }
        extra = {"worker": f"-c 3 -n {tmp_path.name} --include tests.poolers.messes"}
        processes: dict[str, Process] = {}
        ready = {
            "web": lambda: _is_live(port),
            "worker": lambda: " ready." in processes["worker"].output,
        }
        with ExitStack() as running, card_gateway(tmp_path) as gateway:
            env["CARD_GATEWAY_URL"] = f"http://127.0.0.1:{gateway.server_port}"
            for name in ("web", "worker", "relay"):
                log = tmp_path / f"{name}.log"
                process = Process.from_procfile(
                    name, log=log, env=env, extra=extra.get(name, ""), ready=ready.get(name, lambda: True)
                )
                processes[name] = process
                running.enter_context(process)
            yield Product(port, gateway.ledger, processes)

    return product


@contextmanager
def card_gateway(folder: Path) -> Iterator[Gateway]:
    with Gateway(0, folder / "cards.jsonl") as gateway:
        threading.Thread(target=gateway.serve_forever, args=(0.01,), daemon=True).start()
        yield gateway
        gateway.shutdown()


def _is_live(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).is_success
    except httpx.HTTPError:
        return False
