"""The defaults that the documents state, compared with those of config/settings.py and config/gunicorn.py."""

import re
import runpy
from collections.abc import Iterator
from typing import Any

import environ
import pytest
from django.conf import global_settings

from devstack import CHECKOUT
from tests.test_env_example import READ_BY_WEB, Reader

PAGES = sorted(CHECKOUT.glob("docs/[!d]*/*.md"))
WORDS = {
    "three": "3",
    "third": "3",
    "five": "5",
    "seven": "7",
    "ten": "10",
    "twelve": "12",
    "twenty": "20",
    "thousand": "1000",
}
#: How a page states the default of a variable that it names. Lines are joined.
NAMED = [
    r"`(?P<name>[A-Z_]{5,})` \((?P<value>[\d.]+)\)",
    r"\(`(?P<name>[A-Z_]{5,})`, (?P<value>\d+) s\b",
    r"(?P<value>\d+) s \(`(?P<name>[A-Z_]{5,})`\)",
    # The table of variables of how-to/deploy.md
    r"\| `(?P<name>[A-Z_]{5,})` \| [^|]*: (?P<value>\d+)(?=[;.]| \|)",
]
#: A row of the table of limits there
LIMITS = r"\| (?P<names>`[A-Z_]+`(?:, `[A-Z_]+`)*) \| (?P<values>\d[\w/]*(?:, \d[\w/]*)*) \|"
#: How a page states a default without its name, for whom names mean nothing: `{}` is the value, in units of so many.
UNNAMED: list[tuple[str, str, str, float]] = [
    ("how-to/call-the-api.md", "A token lasts {} hours", "TOKEN_HOURS", 1),
    ("how-to/call-the-api.md", "an organisation sends {} of them at the most", "UNCONFIRMED_MAILS", 1),
    ("how-to/call-the-api.md", "after {} days the organisation is deleted", "UNCONFIRMED_DAYS", 1),
    ("how-to/call-the-api.md", "To confirm it lasts {} days", "UNCONFIRMED_DAYS", 1),
    ("how-to/call-the-api.md", "to set a password {}.", "PASSWORD_RESET_TIMEOUT", 86_400),
    ("how-to/call-the-api.md", "Keys are kept for {} hours", "IDEMPOTENCY_KEY_HOURS", 1),
    ("how-to/call-the-api.md", "or leave for {} days", "JOB_DEAD_DAYS", 1),
    ("how-to/call-the-api.md", "it was dead for {} days", "JOB_DEAD_DAYS", 1),
    ("how-to/call-the-api.md", "within the last {} days", "LOGIN_KNOWN_DAYS", 1),
    ("how-to/call-the-api.md", "{} for `address` and `user`", "THROTTLE_ADDRESS", 1),
    ("how-to/call-the-api.md", "{} for `address` and `user`", "THROTTLE_USER", 1),
    ("how-to/call-the-api.md", "{} for `tenant`", "THROTTLE_TENANT", 1),
    ("how-to/call-the-api.md", "{} for `login`", "THROTTLE_LOGIN", 1),
    ("how-to/call-the-api.md", "{} for `user_password`", "THROTTLE_USER_PASSWORD", 1),
    ("how-to/call-the-api.md", "{} for `password`", "THROTTLE_PASSWORD", 1),
    ("how-to/call-the-api.md", "{} an hour for `sign_up`", "THROTTLE_SIGN_UP", 1),
    ("how-to/call-the-api.md", "so many `Idempotency-Key`s a day ({})", "THROTTLE_IDEMPOTENCY_KEY", 1),
    ("how-to/call-the-api.md", "so many mails ({})", "THROTTLE_MAIL", 1),
    ("how-to/deploy.md", "hangs for {} minutes (`RELAY_STALL_SECONDS`)", "RELAY_STALL_SECONDS", 60),
    ("how-to/deploy.md", "renews the leases of its jobs every {} s", "JOB_RENEWAL_INTERVAL", 1),
    ("how-to/write-a-job.md", "soft time limit ({} s)", "JOB_SOFT_TIME_LIMIT", 1),
    ("how-to/write-a-job.md", "hard time limit ({} s)", "JOB_HARD_TIME_LIMIT", 1),
    ("how-to/write-a-job.md", "after {} in a row it is `dead`", "JOB_MAX_TRANSIENT", 1),
    ("how-to/write-a-job.md", "after the {} kill in a row", "JOB_MAX_KILLS", 1),
    ("how-to/write-a-job.md", "after a {} times it is `dead`", "JOB_MAX_SNOOZES", 1),
    ("how-to/write-a-job.md", "after {} h it is `dead`", "JOB_UNKNOWN_TASK_HOURS", 1),
    ("explanation/protocol.md", "the next send ({} s from now", "JOB_FIRST_RESEND", 1),
    ("explanation/protocol.md", "sent again after {} s", "JOB_FIRST_RESEND", 1),
    ("explanation/protocol.md", "deadline: {} s after the hard time limit", "JOB_LEASE_MARGIN", 1),
    ("explanation/protocol.md", "The lease runs out within {} s", "JOB_LEASE", 1),
    ("explanation/protocol.md", "jobs every {} s, up to their deadlines", "JOB_RENEWAL_INTERVAL", 1),
    ("explanation/protocol.md", "after the {} kill in a row", "JOB_MAX_KILLS", 1),
    ("explanation/protocol.md", "counts it in `lost`, and after {} it is dead", "JOB_MAX_LOST", 1),
    ("explanation/protocol.md", "known its task for {} h", "JOB_UNKNOWN_TASK_HOURS", 1),
    ("explanation/protocol.md", "or is {} days old", "JOB_DEAD_DAYS", 1),
    ("explanation/promise.md", "has been dead for {} days", "JOB_DEAD_DAYS", 1),
]


def text_of(page: str) -> str:
    return " ".join((CHECKOUT / "docs" / page).read_text().split())


def named() -> Iterator[tuple[str, str, str]]:
    """Page, name and value of each default that stands beside its name."""
    for path in PAGES:
        page = str(path.relative_to(CHECKOUT / "docs"))
        text = text_of(page)
        for pattern in NAMED:
            yield from ((page, found["name"], found["value"]) for found in re.finditer(pattern, text))
        for row in re.finditer(LIMITS, text):
            names = re.findall("[A-Z_]+", row["names"])
            yield from ((page, name, value) for name, value in zip(names, row["values"].split(", "), strict=True))


STATED = list(named())


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The value of each setting and variable where the environment has none."""
    monkeypatch.setattr(environ, "Env", Reader)
    values = vars(global_settings) | runpy.run_path(str(CHECKOUT / "config/settings.py"))
    values |= {name: default for name, (_, default) in Reader.reads.items()} | READ_BY_WEB
    Reader.reads.clear()
    return values


@pytest.mark.parametrize(("page", "name", "value"), STATED, ids=[f"{page} {name}" for page, name, _ in STATED])
def test_a_default_beside_its_name(defaults: dict[str, Any], page: str, name: str, value: str) -> None:
    assert number(value) == number(defaults[name])


@pytest.mark.parametrize(("page", "words", "name", "unit"), UNNAMED)
def test_a_default_without_its_name(defaults: dict[str, Any], page: str, words: str, name: str, unit: float) -> None:
    pattern = re.escape(words).replace(r"\{\}", r"([\w,]+)")
    values = re.findall(pattern, text_of(page))
    assert values
    for value in values:
        assert number(value) == number(defaults[name]) / unit


def number(value: Any) -> float:
    """Of a limit such as `600/min`, how many."""
    text = str(value).partition("/")[0].replace(",", "")
    return float(WORDS.get(text, text))


def test_units_of_limits(defaults: dict[str, Any]) -> None:
    """Beside their names they stand with their units."""
    stated = {name: value for _, name, value in STATED if name.startswith("THROTTLE_")}
    assert stated == {name: value for name, value in defaults.items() if name.startswith("THROTTLE_")}


def test_nearly_all_that_is_stated_is_found() -> None:
    assert len({name for _, name, _ in STATED}) > 25
    assert {"JOB_LEASE", "WEB_CONCURRENCY", "HOST_QUARANTINE_DAYS", "LOGIN_MAX_WAIT"} <= {name for _, name, _ in STATED}
