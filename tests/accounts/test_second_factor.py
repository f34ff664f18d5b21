"""How staff log in: with a password and a code of the authenticator app, or a recovery code."""

import importlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as product
from django.contrib.auth.signals import user_login_failed
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_tenants.utils import tenant_context
from pytest_django import Settings

from accounts.models import User
from accounts.second_factor import SecondFactor, digest_code, renew_second_factor, verify_code
from devstack import CHECKOUT
from tenants.connection import connection
from tenants.models import Tenant
from tests.people import PASSWORD, add_staff, at_once, client_of_staff

LOGIN = "/admin/login/?next=/admin/"
REFUSED = "Please enter the correct e-mail, password and code"


@pytest.fixture(autouse=True)
def _second_factor(settings: Settings) -> None:
    settings.STAFF_SECOND_FACTOR = True


@pytest.fixture
def sam(db: None) -> User:
    return add_staff()


@pytest.fixture
def factor(sam: User) -> SecondFactor:
    return renew_second_factor(sam)


@pytest.fixture
def client() -> Client:
    return Client(headers={"host": "localhost"})


def code_of(user: User) -> str:
    """What the authenticator app shows now."""
    device = TOTPDevice.objects.get(user=user)
    return f"{TOTP(device.bin_key).token():06}"


def log_in(client: Client, user: User, code: str, password: str = PASSWORD) -> str:
    """The page that comes of it."""
    form = {"username": user.email.upper(), "password": password, "code": code}
    return str(client.post(LOGIN, form, follow=True).content.decode())


def is_in(client: Client) -> bool:
    return bool(client.get("/admin/").status_code == 200)


def test_staff_log_in_with_the_app(client: Client, sam: User, factor: SecondFactor) -> None:
    assert "Log out" in log_in(client, sam, code_of(sam))
    assert is_in(client)


def test_staff_log_in_with_each_recovery_code_once(client: Client, sam: User, factor: SecondFactor) -> None:
    first, *others = factor.recovery_codes
    assert len(others) == 9
    log_in(client, sam, first)
    assert is_in(client)
    again = Client(headers={"host": "localhost"})
    assert REFUSED in log_in(again, sam, first)
    assert not is_in(again)
    assert StaticToken.objects.count() == 9


SPELLINGS: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "a dash": lambda code: f"{code[:4]}-{code[4:]}",
    "blanks": lambda code: f"  {' '.join(code.title())}\t",
    "no-break space and en dash": lambda code: f"\u00a0{code[:4]}\u2013{code[4:]}-",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_recovery_code_is_taken_however_it_is_typed_and_once(
    client: Client, sam: User, factor: SecondFactor, spelling: str
) -> None:
    code = factor.recovery_codes[0]
    log_in(client, sam, SPELLINGS[spelling](code))
    assert is_in(client)

    for again in (code, code.upper(), *(spell(code) for spell in SPELLINGS.values())):
        assert REFUSED in log_in(Client(headers={"host": "localhost"}), sam, again)
    assert StaticToken.objects.count() == 9


@pytest.mark.parametrize("form", ["{0} {1}", " {0}-{1} "])
def test_so_is_a_code_of_the_app(client: Client, sam: User, factor: SecondFactor, form: str) -> None:
    code = code_of(sam)
    log_in(client, sam, form.format(code[:3], code[3:]))
    assert is_in(client)


def test_a_code_that_was_given_by_hand_is_taken_as_it_is(client: Client, sam: User, factor: SecondFactor) -> None:
    device = StaticDevice.objects.get(user=sam)
    StaticToken.objects.create(device=device, token=digest_code("By-Hand 1"))
    log_in(client, sam, "By-Hand 1")
    assert is_in(client)


def test_a_code_of_the_app_serves_once(client: Client, sam: User, factor: SecondFactor) -> None:
    code = code_of(sam)
    log_in(client, sam, code)
    again = Client(headers={"host": "localhost"})
    assert REFUSED in log_in(again, sam, code)
    assert not is_in(again)


@pytest.mark.parametrize("code", ["", "abcdefgh", "x\0", "-1", "9" * 16, "9" * 1000])
def test_a_password_is_not_enough(client: Client, sam: User, factor: SecondFactor, code: str) -> None:
    log_in(client, sam, code)
    assert not is_in(client)


def test_nobody_without_a_second_factor_gets_in(client: Client, sam: User) -> None:
    assert REFUSED in log_in(client, sam, "123456")
    client.force_login(sam)
    assert not is_in(client)


def test_a_code_of_somebody_else_is_refused(client: Client, sam: User, factor: SecondFactor) -> None:
    sue = add_staff(email="sue@tenantry.example")
    renew_second_factor(sue)
    for code in (factor.recovery_codes[0], code_of(sam)):
        assert REFUSED in log_in(client, sue, code)


def test_the_answer_does_not_tell_a_right_password_from_a_wrong_one(
    client: Client, sam: User, factor: SecondFactor
) -> None:
    def errors(password: str) -> list[str]:
        answer = client.post(LOGIN, {"username": sam.email, "password": password, "code": "wrong"})
        assert password not in answer.content.decode()
        return [str(error) for error in answer.context["form"].non_field_errors()]

    assert errors(PASSWORD) == errors("another one") != []


def test_a_wrong_code_is_a_failed_log_in(client: Client, sam: User, factor: SecondFactor) -> None:
    failed: list[dict[str, Any]] = []

    def note(credentials: dict[str, Any], **kwargs: Any) -> None:
        failed.append(credentials)

    user_login_failed.connect(note)
    try:
        log_in(client, sam, "wrong")
        assert [credentials["username"] for credentials in failed] == [sam.email.upper()]
    finally:
        user_login_failed.disconnect(note)


@pytest.mark.parametrize("failures", [1, 100])
def test_no_device_waits_by_itself(client: Client, sam: User, factor: SecondFactor, failures: int) -> None:
    """accounts/logins.py limits the tries: see tests/limits/test_staff_codes.py."""
    now = timezone.now()
    TOTPDevice.objects.update(throttling_failure_count=failures, throttling_failure_timestamp=now)
    assert "Log out" in log_in(client, sam, code_of(sam))


# What is stored of recovery codes


def test_no_recovery_code_can_be_read_or_guessed_from_the_database(
    client: Client, sam: User, factor: SecondFactor, settings: Settings
) -> None:
    stored = set(StaticToken.objects.values_list("token", flat=True))
    assert len(stored) == 10
    assert stored.isdisjoint(factor.recovery_codes)
    for token in stored:
        assert REFUSED in log_in(client, sam, token)
    settings.SECRET_KEY = "another key"
    assert stored.isdisjoint(digest_code(code) for code in factor.recovery_codes)


def test_they_serve_while_the_key_is_rotated(
    client: Client, sam: User, factor: SecondFactor, settings: Settings
) -> None:
    first, second, *_ = factor.recovery_codes
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another key"
    assert "Log out" in log_in(client, sam, first)
    settings.SECRET_KEY_FALLBACKS = []
    assert REFUSED in log_in(Client(headers={"host": "localhost"}), sam, second)


def test_codes_of_before_are_digests_after_the_upgrade_and_serve_once(client: Client, sam: User) -> None:
    recovery = StaticDevice.objects.create(user=sam, name="Recovery codes")
    StaticToken.objects.bulk_create([StaticToken(device=recovery, token=code) for code in ("abcdefgh", "ijklmnop")])
    migration = importlib.import_module("accounts.migrations.0006_recovery_codes")
    for _ in range(2):  # a second time changes nothing
        migration.digest(apps, SimpleNamespace(connection=connection))
    stored = set(StaticToken.objects.values_list("token", flat=True))
    assert stored == {digest_code("abcdefgh"), digest_code("ijklmnop")}
    assert "Log out" in log_in(client, sam, "abcdefgh")
    assert REFUSED in log_in(Client(headers={"host": "localhost"}), sam, "abcdefgh")


def test_the_migration_leaves_tenants_alone(acme: Tenant) -> None:
    migration = importlib.import_module("accounts.migrations.0006_recovery_codes")
    with tenant_context(acme):
        migration.digest(apps, SimpleNamespace(connection=connection))


def test_of_many_who_use_one_code_at_once_one_gets_in(committed_db: None) -> None:
    sam = add_staff()
    code = renew_second_factor(sam).recovery_codes[0]
    used = at_once(*[lambda: verify_code(sam, code) is not None] * 6)
    assert sorted(used) == [False] * 5 + [True]
    assert StaticToken.objects.count() == 9


def test_a_new_second_factor_ends_the_old_one_and_its_sessions(sam: User, factor: SecondFactor) -> None:
    client = client_of_staff(sam)
    assert is_in(client)
    out = io.StringIO()
    call_command("second_factor", "SAM@tenantry.example", stdout=out)
    assert not is_in(client)
    *_, last_code = out.getvalue().split()
    log_in(client, sam, last_code)
    assert is_in(client)
    assert REFUSED in log_in(Client(headers={"host": "localhost"}), sam, factor.recovery_codes[0])


def test_only_staff_get_a_second_factor(sam: User) -> None:
    User.objects.update(is_staff=False)
    with pytest.raises(CommandError, match="No member of staff"):
        call_command("second_factor", sam.email)


def test_secrets_are_not_in_the_admin(sam: User) -> None:
    client = client_of_staff(sam)
    for model in ("otp_totp/totpdevice", "otp_static/staticdevice"):
        assert client.get(f"/admin/{model}/").status_code == 404
        assert client.get(f"/admin/{model}/add/").status_code == 404


def test_a_session_is_short_and_ends_with_the_browser(client: Client, sam: User, factor: SecondFactor) -> None:
    log_in(client, sam, code_of(sam))
    cookie = client.cookies[product.SESSION_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
    assert (cookie["max-age"], cookie["expires"]) == ("", "")
    assert client.session.get_expiry_age() <= 3600


def test_it_can_be_off_in_development(client: Client, sam: User, settings: Settings) -> None:
    settings.STAFF_SECOND_FACTOR = False
    client.post(LOGIN, {"username": sam.email, "password": PASSWORD})
    assert is_in(client)


def settings_with(**environ: str) -> subprocess.CompletedProcess[str]:
    program = (
        "from config import settings as s\n"
        "print(s.STAFF_SECOND_FACTOR, getattr(s, 'SESSION_COOKIE_NAME', None), s.SESSION_COOKIE_SECURE)"
    )
    env = {**os.environ, "SECRET_KEY": "a" * 64, **environ}
    return subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, env=env, capture_output=True, text=True)


def test_production_refuses_to_turn_it_off() -> None:
    assert "staff need a second factor" in settings_with(DEBUG="0", STAFF_SECOND_FACTOR="0").stderr
    assert settings_with(DEBUG="1", STAFF_SECOND_FACTOR="0").stdout.startswith("False")
    assert settings_with(DEBUG="0").stdout.startswith("True")


def test_behind_tls_no_other_host_sets_the_cookie() -> None:
    assert settings_with(DEBUG="0", BEHIND_TLS_PROXY="1").stdout.split() == ["True", "__Host-sessionid", "True"]
