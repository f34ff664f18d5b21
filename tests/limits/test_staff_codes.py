"""How often staff's second factor may be tried by somebody who has the password."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings

from accounts.second_factor import SecondFactor, renew_second_factor
from tests.limits.conftest import Clock
from tests.people import PASSWORD, add_staff, at_once

Somewhere = Callable[[], str]
TRIES = 5
HOUR = 60 * 60
SAM = "sam@tenantry.example"


@pytest.fixture(autouse=True)
def _as_shipped(settings: Settings) -> None:
    settings.STAFF_SECOND_FACTOR = True
    settings.LOGIN_TRIES = TRIES
    settings.LOGIN_MAX_WAIT = 60
    settings.LOGIN_KNOWN_DAYS = 30


@pytest.fixture
def factor(db: None, clock: Clock) -> SecondFactor:
    """Sam's."""
    return renew_second_factor(add_staff())


def log_in(address: str, code: str, password: str = PASSWORD) -> Any:
    client = Client(headers={"host": "localhost"}, REMOTE_ADDR=address)
    return client.post("/admin/login/?next=/admin/", {"username": SAM, "password": password, "code": code})


def right_code() -> str:
    device = TOTPDevice.objects.get()
    TOTPDevice.objects.update(last_t=-1)  # each serves once, and these tests take no half a minute
    return f"{TOTP(device.bin_key).token():06}"


@pytest.mark.parametrize("code", ["000000", "abcdefgh", ""])
def test_a_right_password_gives_no_try_back(
    factor: SecondFactor, hashed: list[str], somewhere: Somewhere, clock: Clock, code: str
) -> None:
    hashed.clear()
    answers = [log_in(somewhere(), code) for _ in range(30)]
    assert [answer.status_code for answer in answers] == [200] * (TRIES + 1) + [429] * (30 - TRIES - 1)
    assert len(hashed) == TRIES + 1
    assert log_in(somewhere(), right_code()).status_code == 429


def test_the_answers_do_not_tell_which_of_the_two_was_wrong(
    factor: SecondFactor, somewhere: Somewhere, clock: Clock
) -> None:
    def play(password: str) -> list[Any]:
        here, told = somewhere(), []
        for n in range(20):
            answer = log_in(here if n % 2 else somewhere(), "abcdefgh", password)
            told.append((answer.status_code, answer.get("Retry-After")))
            clock.now += n % 4
        clock.now += HOUR
        return told

    assert play(PASSWORD) == play("wrong")


def test_waits_grow_up_to_a_minute(factor: SecondFactor, somewhere: Somewhere, clock: Clock) -> None:
    waits = []
    for _ in range(8):
        while (answer := log_in(somewhere(), "abcdefgh")).status_code != 429:
            pass
        waits.append(int(answer["Retry-After"]))
        clock.now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert log_in(somewhere(), right_code()).status_code == 302


def test_how_many_codes_can_be_tried_in_an_hour(
    factor: SecondFactor, hashed: list[str], somewhere: Somewhere, clock: Clock
) -> None:
    """As decision 29 says."""
    hashed.clear()
    end = clock.now + 3 * HOUR
    while clock.now < end:
        answer = log_in(somewhere(), "abcdefgh")
        clock.now += int(answer.get("Retry-After", 0))
    assert 3 * 60 < len(hashed) <= 3 * 71


def test_half_a_log_in_makes_no_address_known(factor: SecondFactor, somewhere: Somewhere, clock: Clock) -> None:
    here, home = somewhere(), somewhere()
    assert log_in(home, right_code()).status_code == 302
    assert log_in(here, "abcdefgh").status_code == 200
    for _ in range(20):
        log_in(somewhere(), "abcdefgh")
    assert log_in(here, right_code()).status_code == 429
    assert log_in(home, right_code()).status_code == 302


def test_a_log_in_with_both_does_not_count(factor: SecondFactor, somewhere: Somewhere, clock: Clock) -> None:
    here = somewhere()
    assert [log_in(here, code).status_code for code in factor.recovery_codes] == [302] * 10


def test_a_wrong_code_is_logged_once(
    factor: SecondFactor, somewhere: Somewhere, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    here = somewhere()
    log_in(here, "000000x")
    told: list[Any] = [record for record in caplog.records if record.name == "tenantry.logins"]
    assert [(line.message, line.account, line.address) for line in told] == [("log-in failed", SAM, here)]
    assert "000000x" not in caplog.text


def test_many_codes_at_once_do_not_pass_together(
    committed_db: None, hashed: list[str], somewhere: Somewhere, clock: Clock
) -> None:
    renew_second_factor(add_staff())
    hashed.clear()
    addresses = [somewhere() for _ in range(12)]
    tries = [lambda address=address: log_in(address, "abcdefgh").status_code for address in addresses]
    assert sorted(at_once(*tries)) == [200] * (TRIES + 1) + [429] * (12 - TRIES - 1)
    assert len(hashed) == TRIES + 1
