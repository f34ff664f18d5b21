import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.servers import Sink

REQUEST = {"amount": 1290, "currency": "EUR", "token": "tok_ok", "reference": "INV-1", "tenant": "acme"}


@pytest.fixture
def cards(tmp_path: Path) -> Iterator[Sink]:
    with Sink("cards", tmp_path) as sink:
        yield sink


def charge(cards: Sink, key: str | None, *, timeout: float = 10, **changes: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    url = f"http://127.0.0.1:{cards.port}/charges"
    return httpx.post(url, headers=headers, json={**REQUEST, **changes}, timeout=timeout, trust_env=False)


def outcomes(cards: Sink, key: str | None = None) -> list[str]:
    calls = [json.loads(line) for line in cards.calls.read_text().splitlines()]
    return [call["outcome"] for call in calls if key in (None, call["key"])]


def test_a_charge_is_answered_and_logged(cards: Sink) -> None:
    answer = charge(cards, "pay-1")
    assert answer.status_code == 201
    assert answer.json()["id"].startswith("ch_")
    assert answer.json() == {"id": answer.json()["id"], "status": "succeeded", "amount": 1290, "currency": "EUR"}
    (line,) = cards.calls.read_text().splitlines()
    call = json.loads(line)
    assert call.pop("time")
    assert call == {**REQUEST, "key": "pay-1", "outcome": "charged"}


def test_the_same_key_and_body_get_the_first_answer_and_no_second_charge(cards: Sink) -> None:
    first, second = charge(cards, "pay-1"), charge(cards, "pay-1")
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert outcomes(cards) == ["charged", "replayed"]


def test_equal_calls_at_once_charge_once(cards: Sink) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: charge(cards, "pay-1"), range(64)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(outcomes(cards)) == ["charged"] + ["replayed"] * 63


@pytest.mark.parametrize("change", [{"amount": 1}, {"currency": "USD"}, {"reference": "INV-2"}, {"tenant": "globex"}])
def test_the_same_key_with_another_body_is_a_conflict(cards: Sink, change: dict[str, Any]) -> None:
    charge(cards, "pay-1")
    assert charge(cards, "pay-1", **change).status_code == 409
    assert outcomes(cards) == ["charged", "conflict"]


def test_a_declined_card_stays_declined_for_its_key(cards: Sink) -> None:
    first, second = (charge(cards, "pay-1", token="tok_declined") for _ in range(2))
    assert first.status_code == second.status_code == 402
    assert first.json() == second.json() == {"id": first.json()["id"], "status": "declined", "reason": "card_declined"}
    assert outcomes(cards) == ["declined", "replayed"]


def test_the_timeout_token_charges_and_answers_the_second_call_only(cards: Sink) -> None:
    with pytest.raises(httpx.ReadTimeout):
        charge(cards, "pay-1", token="tok_timeout", timeout=0.3)
    assert outcomes(cards) == ["charged"]
    assert charge(cards, "pay-1", token="tok_timeout").status_code == 201
    assert outcomes(cards) == ["charged", "replayed"]


def test_the_slow_token_takes_two_seconds_and_holds_up_nobody(cards: Sink) -> None:
    with ThreadPoolExecutor(1) as thread:
        started = time.monotonic()
        slow = thread.submit(charge, cards, "slow", token="tok_slow")
        assert charge(cards, "quick").status_code == 201
        assert time.monotonic() - started < 2
        assert slow.result().status_code == 201
        assert time.monotonic() - started >= 2


@pytest.mark.parametrize("change", [{"token": "tok_nonsense"}, {"amount": "12"}, {"amount": 0}, {"tenant": None}])
def test_nonsense_is_rejected_and_does_not_use_up_the_key(cards: Sink, change: dict[str, Any]) -> None:
    assert charge(cards, "pay-1", **change).status_code == 422
    assert charge(cards, "pay-1").status_code == 201
    assert outcomes(cards) == ["rejected", "charged"]


def test_a_call_without_a_key_is_rejected(cards: Sink) -> None:
    assert charge(cards, None).status_code == 400
    assert outcomes(cards) == ["rejected"]


def test_kill_9_forgets_nothing(cards: Sink) -> None:
    first = charge(cards, "pay-1")
    cards.kill()
    cards.start()
    assert charge(cards, "pay-1").json() == first.json()
    assert charge(cards, "pay-1", amount=1).status_code == 409
    assert outcomes(cards) == ["charged", "replayed", "conflict"]


def test_calls_can_be_listed(cards: Sink) -> None:
    charge(cards, "pay-1")
    charge(cards, "pay-2")
    url = f"http://127.0.0.1:{cards.port}/charges"
    everything = httpx.get(url, trust_env=False).json()["results"]
    assert [call["key"] for call in everything] == ["pay-1", "pay-2"]
    assert httpx.get(url, params={"key": "pay-2"}, trust_env=False).json()["results"] == everything[1:]
