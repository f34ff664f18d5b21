"""What .env.example names, with values that are wrong: one line names the variable, and what it may hold."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import environ
import pytest
from rest_framework.throttling import SimpleRateThrottle

from devstack import CHECKOUT
from devstack.ports import free_port
from environment import Misconfigured
from limits.checks import check_limits
from tests.test_env_example import KEYS, NAMES, READ_BY_MAKE, READ_BY_WEB, STATED, Reader

SETTINGS, GUNICORN = CHECKOUT / "config/settings.py", CHECKOUT / "config/gunicorn.py"
NUMBERS = [name for name in NAMES if re.fullmatch(r"[\d.]+", STATED.get(name, ""))]
RATES = [name for name in NAMES if name.startswith("THROTTLE_")]
#: Those that may be 0: it turns something off, or lets nothing pass that needs no number.
ZERO = {
    "DATABASE_MAX_AGE",
    "HOST_QUARANTINE_DAYS",
    "HSTS_SECONDS",
    "JOBS_DEAD_PER_HOUR",
    "JOB_MAX_SNOOZES",
    "JOB_MAX_TRANSIENT",
    "LOGIN_KNOWN_DAYS",
    "LOGIN_MAX_WAIT",
    "NUM_PROXIES",
    "REQUEST_LOCK_SECONDS",
    "REQUEST_STATEMENT_SECONDS",
    "SPARE_SCHEMAS",
    "UNCONFIRMED_MAILS",
    "WORKER_TASKS_PER_CONNECTION",
}
FLAGS = {
    "BEHIND_TLS_PROXY",
    "DEBUG",
    "REDIS_TLS_SELF_SIGNED",
    "STAFF_SECOND_FACTOR",
    "WORKER_REMOTE_CONTROL",
}
ODD_NUMBERS = ["", "x", "nan", "inf", "-inf", "-1", "1e999", "99999999999", "5 s", "1,5", "9" * 5000]
ODD = {
    "BASE_DOMAIN": ["", "*", "http://x.y", ".example.com", "example.com.", "x:80", "a b", "a..b", "Example.com", "x\n"],
    "CARD_GATEWAY_URL": ["", "x", "ftp://x", "http://", "http://x:99999", "http://x:port", "http://x\ny"],
    "CELERY_RESULT_BACKEND": ["", "redis"],
    "DATABASE_DIRECT_URL": ["x", "postgres://user:word@x:port/shop"],
    "DATABASE_URL": ["", "x", "mysql://x/shop", "postgres://user:word@x:99999/shop"],
    "CORS_ALLOWED_ORIGINS": ["null", "*", "example.com", "https://x/", "https://x, https://y", "https://X.com"],
    "DEFAULT_FROM_EMAIL": ["", "x", "a@b\nBcc: c@d", "Shop <>", '"Shop <a@b.example>"'],
    "EMAIL_URL": ["", "x", "http://x", "smtp://", "smtp://user:word@x:99999", "smtp://user:word@x:port"],
    "LOG_JSON": ["2", "maybe", "-1"],
    "LOG_LEVEL": ["", "LOUD", "info", "10"],
}
#: A check of the processes looks at these, or the server that they name.
TEXTS = {"BROKER_URL", "CACHE_URL", "PAYMENT_GATEWAY", "REDIS_KEY_PREFIX"}
TEXTS |= {"REDIS_URL", READ_BY_MAKE, *KEYS}

WRONG = [(name, value) for name in NUMBERS for value in [*ODD_NUMBERS, *([] if name in ZERO | FLAGS else ["0"])]]
WRONG += [(name, value) for name in sorted(FLAGS) for value in ("2", "maybe", "truth", " 1")]
WRONG += [(name, value) for name, values in ODD.items() for value in values]
RIGHT = [(name, value) for name in sorted(ZERO) for value in ("0", "1")]
RIGHT += [(name, value) for name, value in STATED.items() if name not in TEXTS]
RIGHT += [
    ("BASE_DOMAIN", "example.com"),
    ("BEHIND_TLS_PROXY", "off"),
    ("BASE_DOMAIN", "xn--bcher-kva.example"),
    ("BASE_DOMAIN", "127.0.0.1"),
    ("CARD_GATEWAY_URL", "https://user:word@gateway.example.com:8443/v1"),
    ("CORS_ALLOWED_ORIGINS", "https://app.example.com,http://localhost:5173,http://[::1]:3000,capacitor://localhost"),
    ("CORS_ALLOWED_ORIGINS", ""),
    ("DEFAULT_FROM_EMAIL", "no-reply@example.com"),
    ("DATABASE_URL", "postgres://user:p%23word@a:5432,b:5433/shop?sslmode=require"),
    ("DATABASE_URL", "postgres://user:p#w[@x/shop"),
    ("DATABASE_DIRECT_URL", ""),
    ("EMAIL_URL", "smtp+tls://user:password@smtp.example.com:587"),
    ("LOG_JSON", ""),
    ("LOG_JSON", "Yes"),
    ("LOG_JSON", "0"),
    ("PORT", "65535"),
    ("REQUEST_LOCK_SECONDS", "0.5"),
    ("UNCONFIRMED_DAYS", "0.5"),
]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """All that is set, but for the keys."""
    monkeypatch.setattr(environ, "Env", Reader)
    yield Reader.ENVIRON
    Reader.ENVIRON.clear()
    Reader.reads.clear()


def read(name: str) -> None:
    runpy.run_path(str(GUNICORN if name in READ_BY_WEB else SETTINGS))


def test_each_variable_has_a_kind() -> None:
    """One that is new comes with its bounds."""
    assert sorted(NAMES) == sorted({*NUMBERS, *RATES, *ODD, *TEXTS})


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}={value[:20]!r}" for name, value in WRONG])
def test_what_is_wrong_is_refused_in_one_line(variables: dict[str, str], name: str, value: str) -> None:
    variables[name] = value

    with pytest.raises(Misconfigured) as refused:
        read(name)

    line = str(refused.value)
    assert re.fullmatch(rf"{name} is .+\. Set it to .+, or leave it out\.", line)
    assert len(line) < 250
    assert "user:word" not in line


@pytest.mark.parametrize(("name", "value"), RIGHT, ids=[f"{name}={value!r}" for name, value in RIGHT])
def test_what_is_documented_is_taken(variables: dict[str, str], name: str, value: str) -> None:
    variables |= {name: value, "DEBUG": "1"}
    read(name)


def test_a_limit_that_is_too_small_for_its_unit_is_not_off(variables: dict[str, str]) -> None:
    variables["REQUEST_LOCK_SECONDS"] = "0.0001"
    with pytest.raises(Misconfigured, match=re.escape("a number from 0.001 to 604800, or 0")):
        read("REQUEST_LOCK_SECONDS")


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", ["", "x", "0/min", "-1/min", "10/week", "nan/min"])
def test_rates_have_a_check(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {name.removeprefix("THROTTLE_").lower(): value})
    assert [(error.id, name in error.msg) for error in check_limits()] == [("limits.E001", True)]


PROCESSES = {
    "check": ("python manage.py check", "JOB_LEASE", "0"),
    "relay": ("python manage.py relay", "JOB_LEASE", "nan"),
    "worker": ("celery -A config worker", "JOB_LEASE", "-1"),
    "beat": ("celery -A config beat", "HEARTBEAT_SECONDS", "60"),
    "web": ("gunicorn -c config/gunicorn.py config.wsgi", "WEB_REQUEST_SECONDS", "nan"),
    "web's settings": ("gunicorn -c config/gunicorn.py config.wsgi", "JOB_LEASE", "0"),
}


@pytest.mark.parametrize("process", PROCESSES)
def test_the_line_is_what_a_process_ends_with(process: str, tmp_path: Path) -> None:
    command, name, value = PROCESSES[process]
    env = {**os.environ, name: value, "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{free_port()}"}
    done = subprocess.run(
        [sys.executable, "-m", *command.split()] if command.startswith(("celery", "gunicorn")) else command.split(),
        cwd=CHECKOUT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if f"{name} is '{value}'. Set it to " in line]
    assert lines, done.stderr
    if command.startswith("python"):
        assert done.stderr.splitlines() == lines
