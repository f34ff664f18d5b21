import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django_tenants.utils import tenant_context
from pytest_django import Settings

from accounts.models import User
from billing import services
from billing.models import Order
from devstack import cards
from tenants.models import Tenant


@pytest.fixture
def card_sink(tmp_path: Path, settings: Settings) -> Iterator[cards.Ledger]:
    """The gateway of `make run`, over HTTP; its ledger knows every call."""
    with cards.Gateway(0, tmp_path / "cards.jsonl") as gateway:
        threading.Thread(target=gateway.serve_forever, args=(0.01,), daemon=True).start()
        settings.CARD_GATEWAY_URL = f"http://127.0.0.1:{gateway.server_port}"
        yield gateway.ledger
        gateway.shutdown()


def place_order(tenant: Tenant, user: User, *, token: str = "tok_ok", unit_amount: int = 1250) -> Order:
    lines: list[services.NewLine] = [{"description": "Tea", "quantity": 2, "unit_amount": unit_amount}]
    with tenant_context(tenant):
        return services.place_order(placed_by=str(user.pk), currency="EUR", payment_token=token, lines=lines)
