"""Where a request comes from, behind as many proxies as there are."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import RequestFactory
from pytest_django import Settings
from rest_framework.test import APIClient

from limits.addresses import client_address, network_of

PEER = "10.0.0.1"
CLIENT = "192.0.2.7"


def address(forwarded: str | None, peer: str = PEER) -> str:
    headers: dict[str, Any] = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return client_address(RequestFactory().get("/", REMOTE_ADDR=peer, **headers))


@pytest.mark.parametrize("forwarded", [None, "", CLIENT, "nonsense"])
def test_without_a_proxy_the_header_is_what_anybody_says(settings: Settings, forwarded: str | None) -> None:
    settings.NUM_PROXIES = 0
    assert address(forwarded) == PEER


@pytest.mark.parametrize(
    ("proxies", "forwarded"),
    [
        (1, CLIENT),
        (1, f"198.51.100.1, {CLIENT}"),
        (1, f"made up, 198.51.100.1,{CLIENT}"),
        (2, f"{CLIENT}, 203.0.113.1"),
        (2, f"198.51.100.1, {CLIENT} , 203.0.113.1"),
        (3, f"made up, {CLIENT}, 203.0.113.1, 203.0.113.2"),
        # Fewer than there are proxies: nothing better is known.
        (2, CLIENT),
    ],
)
def test_each_trusted_proxy_appends_whom_it_talks_to(settings: Settings, proxies: int, forwarded: str) -> None:
    settings.NUM_PROXIES = proxies
    assert address(forwarded) == CLIENT


@pytest.mark.parametrize("forwarded", [None, "", "unknown", "_hid", "1.2", "a" * 5000, f"{CLIENT},", "\u0661.2.3.4"])
def test_what_is_no_address_is_none(settings: Settings, forwarded: str | None) -> None:
    settings.NUM_PROXIES = 1
    assert address(forwarded) == PEER


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
    ],
)
def test_some_proxies_name_the_port_too(settings: Settings, forwarded: str, found: str) -> None:
    settings.NUM_PROXIES = 1
    assert address(forwarded) == found


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_a_client_with_ipv6_has_a_whole_network(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.django_db
def test_25_clients_behind_a_cdn_and_a_router_are_25(
    settings: Settings, rates: Callable[..., None], somewhere: Callable[[], str]
) -> None:
    settings.NUM_PROXIES = 2
    rates(address="1/day")
    client = APIClient(headers={"host": "localhost"}, REMOTE_ADDR=PEER)
    chains = [f"{somewhere()}, 203.0.113.1" for _ in range(25)]

    first = [client.get("/api/v1/nothing/", headers={"x-forwarded-for": chain}).status_code for chain in chains]
    again = [
        client.get("/api/v1/nothing/", headers={"x-forwarded-for": f"{made_up}, {chains[0]}"}).status_code
        for made_up in ("198.51.100.1", "198.51.100.2")
    ]

    assert first == [404] * 25
    assert again == [429, 429]
