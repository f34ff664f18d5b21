"""HttpCardGateway against the card sink, and against a server that answers as it is told."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pytest_django import Settings

from billing.gateways import Charge, ChargeRequest, GatewayError, GatewayUnavailable, HttpCardGateway
from devstack import cards

REQUEST = ChargeRequest(
    idempotency_key="key-1", amount=2500, currency="EUR", token="tok_ok", reference="INV-000001", tenant="acme"
)


class Scripted(ThreadingHTTPServer):
    answer: tuple[int, bytes] = (201, b"{}")


class ScriptedHandler(BaseHTTPRequestHandler):
    server: Scripted

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def scripted(settings: Settings) -> Iterator[Scripted]:
    with Scripted(("127.0.0.1", 0), ScriptedHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        settings.CARD_GATEWAY_URL = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()


def charge(request: ChargeRequest = REQUEST) -> Charge:
    return HttpCardGateway().charge(request)


def test_it_charges_and_says_all_that_the_gateway_needs(card_sink: cards.Ledger) -> None:
    assert charge().succeeded
    [call] = card_sink.calls("key-1")
    assert {name: call[name] for name in ("key", "amount", "currency", "token", "reference", "tenant")} == {
        "key": "key-1",
        "amount": 2500,
        "currency": "EUR",
        "token": "tok_ok",
        "reference": "INV-000001",
        "tenant": "acme",
    }


def test_the_same_key_is_charged_once(card_sink: cards.Ledger) -> None:
    assert charge() == charge()
    assert [call["outcome"] for call in card_sink.calls("key-1")] == ["charged", "replayed"]


def test_a_declined_card_and_an_unknown_one_are_outcomes(card_sink: cards.Ledger) -> None:
    declined = charge(replace(REQUEST, token="tok_declined"))
    assert (declined.succeeded, declined.reason) == (False, "card_declined")
    unknown = charge(replace(REQUEST, idempotency_key="key-2", token="tok_unknown"))
    assert (unknown.succeeded, unknown.reason) == (False, "unknown_token")


def test_a_key_that_comes_with_other_details_is_an_error(card_sink: cards.Ledger) -> None:
    charge()
    with pytest.raises(GatewayError, match="other details"):
        charge(replace(REQUEST, amount=1))


def test_silence_after_the_charge_is_worth_another_try(card_sink: cards.Ledger, settings: Settings) -> None:
    settings.CARD_GATEWAY_TIMEOUT = 1
    silent = replace(REQUEST, token="tok_timeout")
    with pytest.raises(GatewayUnavailable):
        charge(silent)
    assert charge(silent).succeeded
    assert [call["outcome"] for call in card_sink.calls("key-1")] == ["charged", "replayed"]


def test_a_closed_port_is_worth_another_try(settings: Settings) -> None:
    settings.CARD_GATEWAY_URL = "http://127.0.0.1:1"
    with pytest.raises(GatewayUnavailable, match=r"^No answer from the card gateway \(ConnectError\)$"):
        charge()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_trouble_at_the_gateway_is_worth_another_try(scripted: Scripted, status: int) -> None:
    scripted.answer = (status, b"sorry")
    with pytest.raises(GatewayUnavailable, match=str(status)):
        charge()


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]"])
def test_an_answer_that_says_nothing_proves_nothing(scripted: Scripted, body: bytes) -> None:
    scripted.answer = (201, body)
    with pytest.raises(GatewayUnavailable, match="without a JSON object"):
        charge()


@pytest.mark.parametrize("status", [200, 301, 401, 404])
def test_an_answer_outside_of_the_protocol_is_an_error(scripted: Scripted, status: int) -> None:
    scripted.answer = (status, b"{}")
    with pytest.raises(GatewayError, match="CARD_GATEWAY_URL"):
        charge()


def test_the_gateways_words_are_cut_to_what_a_column_takes(scripted: Scripted) -> None:
    scripted.answer = (402, json.dumps({"id": 7, "reason": "no\0" + "x" * 300}).encode())
    assert charge() == Charge(id="7", succeeded=False, reason="no" + "x" * 198)


def test_the_token_stays_out_of_what_is_printed() -> None:
    assert "tok_ok" not in repr(REQUEST)
