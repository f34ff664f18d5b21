from typing import Any

import pytest
from django.core.checks import Error
from pytest_django import Settings

from limits.checks import check_limits
from limits.rates import count, give_back, limit_of, longest_wait
from tests.limits.conftest import Clock


@pytest.mark.parametrize(
    ("rate", "quota", "window"),
    [
        ("600/min", 600, 60),
        ("0/s", 0, 1),
        ("20/hour", 20, 3600),
        ("5/day", 5, 86400),
        ("30/m", 30, 60),
        ("2/hours", 2, 3600),
    ],
)
def test_rates(rates: Any, rate: str, quota: int, window: int) -> None:
    rates(user=rate)
    assert limit_of("user") == ("user", quota, window)


@pytest.mark.parametrize(
    "rate",
    [
        "600",
        "600/",
        "/min",
        "600/week",
        "-1/min",
        "1.5/min",
        "many/min",
        "600 /min",
        "",
        "0/s",
        "3/month",
        "30/dog",
        "3/ss",
    ],
)
def test_what_is_no_rate_is_refused_at_the_start(rates: Any, rate: str) -> None:
    rates(user=rate)
    assert [(error.id, "THROTTLE_USER" in error.msg) for error in check_limits()] == [("limits.E001", True)]


def test_a_negative_number_of_proxies_is_refused(settings: Settings) -> None:
    settings.NUM_PROXIES = -1
    [error] = check_limits()
    assert isinstance(error, Error)
    assert error.id == "limits.E002"


def test_what_is_shipped_is_right() -> None:
    assert check_limits() == []


def test_a_window_has_so_many_and_begins_with_the_first(rates: Any, clock: Clock) -> None:
    rates(mail="3/min")
    waits = [longest_wait(count({"mail": "acme"})) for _ in range(4)]
    assert waits == [None, None, None, 60]
    clock.now += 45
    assert longest_wait(count({"mail": "acme"})) == 15
    assert longest_wait(count({"mail": "globex"})) is None
    clock.now += 15
    assert longest_wait(count({"mail": "acme"})) is None


def test_what_is_given_back_did_not_count(rates: Any, clock: Clock) -> None:
    rates(mail="1/day")
    for _ in range(3):
        assert longest_wait(count({"mail": "acme"})) is None
        give_back({"mail": "acme"})
    assert [one.remaining for one in count({"mail": "acme"})] == [0]


def test_without_a_rate_nothing_is_counted(rates: Any, clock: Clock) -> None:
    rates(user=None)
    assert count({"user": "ada", "mail": "acme"}) == []
