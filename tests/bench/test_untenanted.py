"""The peer of `orders`, which nothing else starts."""

import pytest

from bench.figures.http import order_requests
from bench.load import send
from bench.world import new_world


def test_the_peer_without_tenancy_places_orders_and_dispatches_their_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_KEY_PREFIX")  # a bench has none

    with new_world() as world, world.untenanted() as peer, peer.awake():
        send(peer.port, order_requests(peer), times=20)  # raises for any answer but 201

        peer.check_dispatched(20)
