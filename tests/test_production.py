"""A production with weak keys, or without what `check --deploy` asks for, does not start."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client
from django.utils.crypto import get_random_string
from pytest_django import Settings

from config.checks import check_deployment, check_keys, check_names, check_tls, find_weakness, is_misread
from devstack import CHECKOUT
from devstack.ports import free_port
from devstack.processes import Process
from devstack.procfile import commands
from tests.people import add_staff, client_of_staff

STRONG = "Zt3kQ9vXwL0pNfBhYdRj7sUaGmCeI5oTq1WxEyKu8HrVzJb2DcPnMl6S_4gAiFvO"
PRODUCTION = {
    "DEBUG": "0",
    "BEHIND_TLS_PROXY": "1",
    "SECRET_KEY": STRONG,
    "BASE_DOMAIN": "example.com",
    "DEFAULT_FROM_EMAIL": "no-reply@example.com",
    "EMAIL_URL": "smtp+tls://user:password@smtp.example.com:587",
}
WEAK = {
    "one letter": "x",
    "one letter, often": "x" * 64,
    "a pattern": "abc123" * 12,
    "digits that count": "1234567890" * 6,
    "what counts": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "a keyboard": "qwertyuiopasdfghjklzxcvbnm" * 3,
    "a keyboard, in both cases": "qwertyuiopasdfghjklzxcvbnmQWERTYUIOPASDFGHJKLZXCVBNM",
    "a keyboard, backwards": "mnbvcxzlkjhgfdsapoiuytrewq0987654321MNBVCXZLKJHGFDSAPOIUYTREWQ",
    "a keyboard, with shift": "1234567890qwertyuiop!@#$%^&*()QWERTYUIOPasdfghjklASDFGHJKL",
    "a keyboard, by columns": "1qaz2wsx3edc4rfv5tgb6yhn7ujm1QAZ2WSX3EDC4RFV5TGB6YHN7UJM",
    "another keyboard": "qwertzuiopasdfghjklyxcvbnmQWERTZUIOPASDFGHJKLYXCVBNM",
    "a French one": "azertyuiopqsdfghjklmwxcvbnAZERTYUIOPQSDFGHJKLMWXCVBN",
    "that of DEBUG": "insecure-development-key",
    "that of DEBUG, and more": f"insecure-development-key{STRONG}",
    "Django's": f"django-insecure-{STRONG}",
    "an example": "a-long-random-string-which-you-change-before-you-deploy-it-please",
    "half of one": STRONG[:32],
    "cut at a #": f"{STRONG[:20]}#{STRONG[20:]}".partition("#")[0],
}
MISREAD = {
    "quoted": f'"{STRONG}"',
    "quoted by half": f"'{STRONG}",
    "a blank": f" {STRONG}",
    "a line": f"{STRONG}\n",
    "a control character": f"{STRONG[:9]}\x1b{STRONG[9:]}",
}


def found(messages: Any) -> set[str]:
    messages = list(messages)
    assert all(message.hint for message in messages)
    return {message.id for message in messages}


@pytest.fixture
def production(settings: Settings) -> Settings:
    settings.DEBUG = False
    settings.BEHIND_TLS_PROXY = True
    settings.SECRET_KEY = STRONG
    settings.SECURE_SSL_REDIRECT = settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS = 3600
    settings.BASE_DOMAIN, settings.DEFAULT_FROM_EMAIL = "example.com", "no-reply@example.com"
    return settings


# Keys


@pytest.mark.parametrize("key", WEAK.values(), ids=WEAK)
def test_e001_a_key_that_can_be_guessed(production: Settings, key: str) -> None:
    production.SECRET_KEY = key
    [error] = check_keys()
    assert (error.id, error.msg.startswith("SECRET_KEY can be guessed")) == ("config.E001", True)
    assert len(key) < 30 or key not in f"{error.msg}{error.hint}"


@pytest.mark.parametrize("key", MISREAD.values(), ids=MISREAD)
def test_e002_a_key_that_was_not_read_as_it_was_meant(production: Settings, key: str) -> None:
    production.SECRET_KEY = key
    [error] = check_keys()
    assert (error.id, STRONG[9:] in f"{error.msg}{error.hint}") == ("config.E002", False)


@pytest.mark.parametrize("key", ["x", f"'{STRONG}"])
def test_an_earlier_key_signs_no_more_and_is_checked_all_the_same(production: Settings, key: str) -> None:
    production.SECRET_KEY_FALLBACKS = [secrets.token_urlsafe(48), key]
    [error] = check_keys()
    assert error.msg.startswith("SECRET_KEY_FALLBACKS[1] ")


@pytest.mark.parametrize(
    "make",
    [
        lambda: secrets.token_urlsafe(48),
        lambda: secrets.token_hex(25),
        lambda: get_random_string(50, "abcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*(-_=+)"),  # as Django makes them
        lambda: get_random_string(50, "0123456789"),
    ],
    ids=["urlsafe", "hex", "Django's", "digits"],
)
def test_random_keys_are_strong_whatever_their_alphabet(make: Callable[[], str]) -> None:
    keys = [make() for _ in range(300)]
    assert [key for key in keys if find_weakness(key) or is_misread(key)] == []


def test_while_one_develops_any_key_does(settings: Settings) -> None:
    settings.DEBUG, settings.BEHIND_TLS_PROXY = True, False
    settings.SECRET_KEY = "x"
    assert [*check_keys(), *check_deployment(), *check_tls()] == []


ODD = ["$HOME", f"${STRONG}", f"$HOME{STRONG}", f"${{HOME}}{STRONG}", rf"\${STRONG}", f"{STRONG}#$'\"x"]


@pytest.mark.parametrize("key", ODD)
def test_a_key_is_taken_letter_by_letter(key: str) -> None:
    code = "from django.conf import settings as s; print(s.SECRET_KEY); print(s.SECRET_KEY_FALLBACKS)"
    done = manage("shell", "--no-imports", "-c", code, SECRET_KEY=key, SECRET_KEY_FALLBACKS=f"{key},old", DEBUG="1")
    assert done.stdout.splitlines() == [key, str([key, "old"])]


# Settings


SETTINGS = {
    "SECURE_HSTS_SECONDS": 0,
    "SECURE_HSTS_INCLUDE_SUBDOMAINS": False,
    "SECURE_SSL_REDIRECT": False,
    "SESSION_COOKIE_SECURE": False,
    "CSRF_COOKIE_SECURE": False,
    "SECURE_CONTENT_TYPE_NOSNIFF": False,
    "SECURE_REFERRER_POLICY": None,
    "X_FRAME_OPTIONS": "SAMEORIGIN",
    "ALLOWED_HOSTS": [],
    "DEBUG": True,
    "MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"],
}


def test_a_good_production_passes(production: Settings) -> None:
    assert [*check_keys(), *check_deployment(), *check_tls(), *check_names()] == []


@pytest.mark.parametrize("name", SETTINGS)
def test_e003_what_check_deploy_warns_of(production: Settings, name: str) -> None:
    setattr(production, name, SETTINGS[name])
    assert found(check_deployment()) == {"config.E003"}


def test_w001_plain_http(production: Settings) -> None:
    production.BEHIND_TLS_PROXY = False
    for name in ("SECURE_HSTS_SECONDS", "SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"):
        setattr(production, name, 0)
    assert found(check_tls()) == {"config.W001"}
    assert check_deployment() == []


@pytest.mark.parametrize("domain", ["localhost", "app.localhost"])
def test_w002_names_of_a_developers_machine(production: Settings, domain: str) -> None:
    production.BASE_DOMAIN = domain
    production.DEFAULT_FROM_EMAIL = f"Shop <no-reply@{domain}>"
    assert [message.id for message in check_names()] == ["config.W002", "config.W002"]
    assert [message.msg.split()[0] for message in check_names()] == ["BASE_DOMAIN", "DEFAULT_FROM_EMAIL"]


def test_names_that_only_look_like_a_developers_machine_pass(production: Settings) -> None:
    production.BASE_DOMAIN = "localhosting.example"
    production.DEFAULT_FROM_EMAIL = "localhost@shop.example"
    assert check_names() == []


def test_a_developers_machine_has_names_for_itself(production: Settings) -> None:
    production.DEBUG, production.BEHIND_TLS_PROXY, production.BASE_DOMAIN = True, False, "localhost"
    assert check_names() == []


def test_django_runs_these_checks(production: Settings) -> None:
    production.SECRET_KEY = "x"
    assert "config.E001" in {message.id for message in run_checks()}


def test_check_deploy_is_clean() -> None:
    done = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


# Processes


REPEATED = "aB3_" + STRONG[:8]
READ = {
    "one letter": ("config.E001", {"SECRET_KEY": "a" * 64}),
    "one letter of another alphabet": ("config.E001", {"SECRET_KEY": "\u5b57" * 64}),
    "a short one, often": ("config.E001", {"SECRET_KEY": REPEATED * 8}),
    "blanks around it": ("config.E002", {"SECRET_KEY": f"  {STRONG}  "}),
    "a line's end": ("config.E002", {"SECRET_KEY": f"{STRONG}\n"}),
    "a line's end of Windows": ("config.E002", {"SECRET_KEY": f"{STRONG}\r"}),
    "a no-break space": ("config.E002", {"SECRET_KEY": f"{STRONG}\u00a0"}),
    "a byte order mark": ("config.E002", {"SECRET_KEY": f"\ufeff{STRONG}"}),
    "a fallback that is short": ("config.E001", {"SECRET_KEY_FALLBACKS": f"{STRONG[::-1]},{STRONG[:20]}"}),
    "a fallback of one letter": ("config.E001", {"SECRET_KEY_FALLBACKS": "a" * 64}),
    "a blank after the comma": ("config.E002", {"SECRET_KEY_FALLBACKS": f"{STRONG[::-1]}, {STRONG}"}),
    "fallbacks in quotes": ("config.E002", {"SECRET_KEY_FALLBACKS": f'"{STRONG[::-1]},{STRONG}"'}),
    "no HSTS": ("config.E003", {"HSTS_SECONDS": "0"}),
}


@pytest.mark.parametrize("name", READ)
def test_what_the_environment_says_is_refused(name: str) -> None:
    error, environ = READ[name]
    done = manage("check", **{**PRODUCTION, **environ})
    assert (done.returncode, error in done.stderr) == (1, True), done.stderr
    assert not any(value.strip() in done.stderr for value in environ.values() if len(value) > 20)


def test_without_a_key_there_are_no_settings() -> None:
    done = manage("check", SECRET_KEY="", DEBUG="0")
    assert done.returncode == 1
    assert "Set SECRET_KEY to a long random string" in done.stderr


def test_the_release_step_refuses_a_weak_key() -> None:
    done = subprocess.run(
        ["sh", "-c", commands()["release"]],
        cwd=CHECKOUT,
        env={**os.environ, **PRODUCTION, "SECRET_KEY": "x"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "config.E001" in done.stderr


LINES = {
    "web": ("gunicorn config.wsgi --bind=127.0.0.1:{port} --workers=1", 3),
    "worker": ("celery -A config worker -P solo", 1),
    "relay": ("python manage.py relay", 1),
    "beat": ("celery -A config beat -s {folder}/schedule", 1),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.usefixtures("committed_db")
def test_no_process_starts_with_a_weak_key(name: str, tmp_path: Path) -> None:
    line, code = LINES[name]
    process = Process(
        name,
        line.format(folder=tmp_path, port=free_port()).split(),
        log=tmp_path / "log",
        env={**PRODUCTION, "SECRET_KEY": "x"},
        ready=lambda: not process.running,
    )
    with pytest.raises(Exception, match=f"ended with code {code}"):
        process.start()
    assert "config.E001" in process.log.read_text()


# TLS


def client_behind_a_proxy() -> Client:
    return Client(headers={"host": "localhost", "x-forwarded-proto": "https"})


@pytest.fixture
def behind_a_proxy(production: Settings) -> None:
    production.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.usefixtures("behind_a_proxy", "db")
@pytest.mark.parametrize(
    "path", ["/admin/login/", "/api/v1/schema/", "/problems/", "/nowhere", "/static/admin/css/base.css"]
)
def test_plain_http_is_led_to_tls(path: str) -> None:
    answer = Client(headers={"host": "localhost"}).get(f"{path}?a=b")
    assert (answer.status_code, answer["Location"]) == (301, f"https://localhost{path}?a=b")
    assert "Strict-Transport-Security" not in answer
    secure = client_behind_a_proxy().get(path)
    assert secure.status_code in (200, 404)
    assert secure["Strict-Transport-Security"] == "max-age=3600; includeSubDomains"
    secure.close()


@pytest.mark.usefixtures("behind_a_proxy", "db")
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_load_balancer_asks_for_health_without_tls(path: str) -> None:
    assert Client(headers={"host": "10.0.0.7"}).get(path).status_code == 200


@pytest.mark.usefixtures("behind_a_proxy", "db")
def test_cookies_travel_by_tls_alone() -> None:
    answer = client_behind_a_proxy().get("/admin/login/")
    assert answer.cookies["csrftoken"]["secure"]


def manage(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "manage.py", *command]
    return subprocess.run(argv, cwd=CHECKOUT, env={**os.environ, **environ}, capture_output=True, text=True)


@pytest.mark.django_db
def test_who_logged_in_by_an_earlier_key_stays_logged_in_until_it_goes(settings: Settings) -> None:
    sam = add_staff()
    client = client_of_staff(sam)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    assert client.get("/admin/").status_code == 200

    other = client_of_staff(sam)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a third", []
    assert other.get("/admin/").status_code == 302
