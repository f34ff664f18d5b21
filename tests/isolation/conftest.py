import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from devstack import cards
from tenants.models import Tenant
from tests.isolation.organisations import Organisation
from tests.people import add_user


@pytest.fixture(autouse=True)
def _cards(tmp_path: Path, settings: Settings) -> Iterator[None]:
    """A gateway, for orders whose card it declines."""
    with cards.Gateway(0, tmp_path / "cards.jsonl") as gateway:
        threading.Thread(target=gateway.serve_forever, args=(0.01,), daemon=True).start()
        settings.CARD_GATEWAY_URL = f"http://127.0.0.1:{gateway.server_port}"
        yield
        gateway.shutdown()


@pytest.fixture
def at_acme(acme: Tenant, run_jobs: Callable[..., int]) -> Organisation:
    return Organisation(acme, add_user(acme, "pat"), run_jobs)


@pytest.fixture
def at_globex(globex: Tenant, run_jobs: Callable[..., int]) -> Organisation:
    return Organisation(globex, add_user(globex, "pat"), run_jobs)
