from pathlib import Path

import pytest
from django.test import RequestFactory
from rest_framework.request import Request
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from config.throttles import AnonThrottle, circuit
from tenants.ids import new_id
from tenants.models import Tenant
from tests.poison import PLANTS, server


@pytest.fixture
def request_() -> Request:
    # Nobody has asked from there before.
    return Request(RequestFactory().get("/", REMOTE_ADDR=str(new_id())))


def rates(monkeypatch: pytest.MonkeyPatch, **rates: str | None) -> None:
    nobody = dict.fromkeys(SimpleRateThrottle.THROTTLE_RATES)
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {**nobody, **rates})


def test_a_window_has_so_many_requests(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, anon="3/min")
    clock = [600.0]
    monkeypatch.setattr(SimpleRateThrottle, "timer", lambda self: clock[0])
    assert [AnonThrottle().allow_request(request_, None) for _ in range(4)] == [True, True, True, False]
    clock[0] = 645.0
    late = AnonThrottle()
    assert not late.allow_request(request_, None)
    assert late.wait() == 15
    clock[0] = 660.0
    assert AnonThrottle().allow_request(request_, None)


def test_each_client_has_a_window_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, anon="1/day")
    for _ in range(2):
        client = RequestFactory().get("/", REMOTE_ADDR=str(new_id()), HTTP_X_FORWARDED_FOR=str(new_id()))
        assert AnonThrottle().allow_request(Request(client), None)


def test_a_made_up_address_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, anon="1/day")
    here = str(new_id())
    asked = [RequestFactory().get("/", REMOTE_ADDR=here, HTTP_X_FORWARDED_FOR=str(n)) for n in range(2)]
    assert [AnonThrottle().allow_request(Request(request), None) for request in asked] == [True, False]


@pytest.mark.parametrize(
    ("scope", "path", "host"), [("login", "tokens", "acme.localhost"), ("sign_up", "tenants", "localhost")]
)
def test_logins_and_sign_ups_have_rates_of_their_own(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch, scope: str, path: str, host: str
) -> None:
    rates(monkeypatch, **{scope: "1/day"})
    client = APIClient(headers={"host": host}, REMOTE_ADDR=str(new_id()))
    assert [client.post(f"/api/v1/{path}/", {}).status_code for _ in range(2)] == [400, 429]
    # Who waits for a sign-up to be done may ask how far it is.
    assert client.get("/api/v1/tenants/acme/", headers={"host": "localhost"}).status_code == 200


@pytest.mark.parametrize("plant", PLANTS)
def test_a_count_that_somebody_has_written_over_throttles_all_the_same(
    plant: str, request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates(monkeypatch, anon="2/day")
    assert AnonThrottle().allow_request(request_, None)
    [key] = server().scan_iter(f"*{request_.META['REMOTE_ADDR']}*")
    server().delete(key)
    PLANTS[plant](key.decode(), tmp_path / "executed")

    assert [AnonThrottle().allow_request(request_, None) for _ in range(3)] == [True, True, False]
    assert circuit.closed
    assert not (tmp_path / "executed").exists()
