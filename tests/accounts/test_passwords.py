"""How a password is changed, and in which form it is compared."""

import threading
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.test import Client
from django_tenants.utils import tenant_context
from knox.models import AuthToken
from pytest_django import Settings
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.test import APIClient

from accounts import services
from accounts.errors import WrongPassword
from accounts.models import User
from tenants.models import Tenant
from tests.people import PASSWORD, add_staff, add_user, at_once, await_blocked, client_of, client_of_staff

ME = "/api/v1/users/me/"
TOKENS = "/api/v1/tokens/"
NEW = "another horse battery"
CHANGE = {"password": NEW, "old_password": PASSWORD}
#: One password, as three keyboards send it
COMPOSED = "gr\u00fcn und blau"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
SPACED = COMPOSED.replace(" ", "\u00a0")
SPELLINGS = [COMPOSED, DECOMPOSED, SPACED, "gr\u00fcn\u3000und\u2003blau"]


@pytest.fixture(autouse=True)
def _no_second_factor(settings: Settings) -> None:
    """Staff's has tests of its own."""
    settings.STAFF_SECOND_FACTOR = False


def logs_in(tenant: Tenant, user: User, password: str) -> bool:
    client = APIClient(headers={"host": f"{tenant.slug}.localhost"})
    answer = client.post(TOKENS, {"email": user.email, "password": password})
    assert answer.status_code in (201, 401)
    return answer.status_code == 201


def stored(tenant: Tenant, user: User) -> str:
    with tenant_context(tenant):
        return User.objects.get(pk=user.pk).password


def errors(answer: Any) -> set[tuple[str, str]]:
    assert answer.status_code == 400, answer.content
    return {(error["pointer"], error["code"]) for error in answer.json()["errors"]}


# Changing one's own


def test_a_change_asks_for_the_old_one(as_alan: APIClient, acme: Tenant, alan: User) -> None:
    before = stored(acme, alan)
    assert errors(as_alan.patch(ME, {"password": NEW})) == {("#/old_password", "required")}
    wrong = as_alan.patch(ME, {"password": NEW, "old_password": "wrong", "full_name": "Changed"})
    assert errors(wrong) == {("#/old_password", "wrong_password")}
    assert errors(as_alan.patch(ME, {"old_password": PASSWORD})) == {("#/password", "required")}
    assert stored(acme, alan) == before
    assert as_alan.get(ME).json()["full_name"] == alan.full_name

    changed = as_alan.patch(ME, {**CHANGE, "full_name": "Alan Ash"})
    assert (changed.status_code, changed.json()["full_name"]) == (200, "Alan Ash")
    assert logs_in(acme, alan, NEW)
    assert not logs_in(acme, alan, PASSWORD)


def test_a_change_ends_the_other_tokens(as_alan: APIClient, acme: Tenant, alan: User, ada: User) -> None:
    other, somebody_elses = client_of(acme, alan), client_of(acme, ada)
    assert as_alan.patch(ME, CHANGE).status_code == 200
    assert as_alan.get(ME).status_code == 200
    assert other.get(ME).status_code == 401
    assert somebody_elses.get(ME).status_code == 200


def test_a_change_that_is_refused_ends_no_token(as_alan: APIClient, acme: Tenant, alan: User) -> None:
    other = client_of(acme, alan)
    as_alan.patch(ME, {"password": NEW, "old_password": "wrong"})
    as_alan.patch(ME, {"password": "short", "old_password": PASSWORD})
    assert other.get(ME).status_code == 200


@pytest.mark.parametrize("path", ["users/{id}/", "users/me/"])
@pytest.mark.parametrize("role", ["owner", "admin", "member"])
def test_nobody_sets_a_password_without_the_old_one(acme: Tenant, role: str, path: str) -> None:
    amos, axel = add_user(acme, "amos", role), add_user(acme, "axel")
    before = [stored(acme, user) for user in (amos, axel)]
    for user in (amos, axel):
        answer = client_of(acme, amos).patch(f"/api/v1/{path.format(id=user.pk)}", {"password": NEW})
        assert answer.status_code in (400, 404)
    assert [stored(acme, user) for user in (amos, axel)] == before


def test_of_two_changes_at_once_one_wins(committed_db: None, acme: Tenant) -> None:
    ada = add_user(acme, "ada", "owner")
    with tenant_context(acme):
        tokens = [AuthToken.objects.create(user=ada)[0] for _ in range(2)]

    def change(token: AuthToken, password: str) -> bool:
        with tenant_context(acme):
            actor = User.objects.get(pk=ada.pk)
            try:
                services.update_me(actor=actor, token=token, password=password, old_password=PASSWORD)
            except WrongPassword:
                return False
            return True

    won = at_once(lambda: change(tokens[0], "first horse battery"), lambda: change(tokens[1], "second horse battery"))
    # Whoever reads the row after the other's commit has the wrong password; whoever reads it before, too.
    assert sorted(won) == [False, True]
    with tenant_context(acme):
        assert AuthToken.objects.get().pk == tokens[won.index(True)].pk


def test_no_token_outlives_a_password_that_changes_meanwhile(committed_db: None, acme: Tenant) -> None:
    ada = add_user(acme, "ada", "owner")
    with tenant_context(acme):
        token, _ = AuthToken.objects.create(user=ada)
    changed = threading.Event()

    def change_password() -> bool:
        with tenant_context(acme), transaction.atomic():
            services.update_me(actor=ada, token=token, password=NEW, old_password=PASSWORD)
            changed.set()
            await_blocked()
        return True

    def log_in() -> bool:
        changed.wait(5)
        with tenant_context(acme), pytest.raises(AuthenticationFailed):
            services.log_in(email=ada.email, password=PASSWORD)
        return True

    assert all(at_once(change_password, log_in))
    with tenant_context(acme):
        assert AuthToken.objects.get().pk == token.pk


# One form


@pytest.mark.parametrize("set_as", SPELLINGS)
@pytest.mark.parametrize("sent", SPELLINGS)
def test_a_password_is_the_same_however_a_keyboard_sends_it(
    as_alan: APIClient, acme: Tenant, alan: User, set_as: str, sent: str
) -> None:
    assert as_alan.patch(ME, {"password": set_as, "old_password": PASSWORD}).status_code == 200
    assert logs_in(acme, alan, sent)
    assert not logs_in(acme, alan, COMPOSED.replace("\u00fc", "u"))
    assert as_alan.patch(ME, {"password": NEW, "old_password": sent}).status_code == 200


@pytest.mark.parametrize("sent", [DECOMPOSED, SPACED])
def test_one_that_was_hashed_as_it_was_sent_still_logs_in_and_is_hashed_anew(
    acme: Tenant, alan: User, sent: str
) -> None:
    with tenant_context(acme):
        User.objects.filter(pk=alan.pk).update(password=make_password(sent))
    assert not logs_in(acme, alan, COMPOSED)
    assert logs_in(acme, alan, sent)
    with tenant_context(acme):
        [token] = AuthToken.objects.all()
    assert logs_in(acme, alan, COMPOSED)
    assert logs_in(acme, alan, sent)
    with tenant_context(acme):
        assert AuthToken.objects.filter(pk=token.pk).exists()


def test_a_new_hash_does_not_undo_a_change_that_came_meanwhile(acme: Tenant, alan: User) -> None:
    with tenant_context(acme):
        User.objects.filter(pk=alan.pk).update(password=make_password(DECOMPOSED))
        read_before = User.objects.get(pk=alan.pk)
        User.objects.filter(pk=alan.pk).update(password=make_password(NEW))
        assert read_before.check_password(DECOMPOSED)
    assert logs_in(acme, alan, NEW)
    assert not logs_in(acme, alan, DECOMPOSED)


def test_a_hash_of_a_kind_that_is_not_preferred_any_more_is_replaced(acme: Tenant, alan: User, settings: Any) -> None:
    old = "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher"
    settings.PASSWORD_HASHERS = [*settings.PASSWORD_HASHERS, old]
    with tenant_context(acme):
        User.objects.filter(pk=alan.pk).update(password=make_password(PASSWORD, hasher="pbkdf2_sha1"))
    assert logs_in(acme, alan, PASSWORD)
    assert stored(acme, alan).startswith("md5$")
    assert logs_in(acme, alan, PASSWORD)


@pytest.mark.django_db
@pytest.mark.parametrize("sent", SPELLINGS)
def test_staff_too(sent: str) -> None:
    sam = User.objects.create_superuser("sam@tenantry.example", "Sam Staff", DECOMPOSED)
    client = Client(headers={"host": "localhost"})
    answer = client.post("/admin/login/?next=/admin/", {"username": sam.email, "password": sent})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


@pytest.mark.parametrize("password", [PASSWORD, DECOMPOSED, SPACED])
def test_an_unknown_user_and_one_without_a_password_take_as_long(
    client_for: Callable[[Tenant], APIClient],
    acme: Tenant,
    alan: User,
    hashed: list[str],
    password: str,
) -> None:
    amy = add_user(acme, "amy")
    with tenant_context(acme):
        User.objects.filter(pk=alan.pk).update(password=make_password(NEW))
        User.objects.filter(pk=amy.pk).update(password=make_password(None))
    times = []
    for email in ("nobody@acme.example", alan.email, amy.email):
        hashed.clear()
        answer = client_for(acme).post(TOKENS, {"email": email, "password": password})
        assert answer.status_code == 401
        times.append(len(hashed))
    assert times == [times[0]] * 3
    assert times[0] >= 1


# What is none


BLANK = ["        ", "\u00a0" * 12, "\u3000 \u2003 \u3000 \u2003 ", "\t\t\t\t\t\t\t\t\t"]


@pytest.mark.parametrize("blank", ["", *BLANK])
def test_a_blank_one_is_refused(as_ada: APIClient, public_client: APIClient, acme: Tenant, blank: str) -> None:
    person = {"email": "ann@acme.example", "full_name": "Ann Ash", "password": blank}
    assert ("#/password", "blank" if blank == "" else "weak_password") in errors(
        as_ada.post("/api/v1/users/", {**person, "role": "member"})
    )
    sign_up = {"name": "Initech", "slug": "initech", "owner": person}
    assert {pointer for pointer, _ in errors(public_client.post("/api/v1/tenants/", sign_up))} == {"#/owner/password"}
    change = {"password": blank, "old_password": PASSWORD}
    assert {pointer for pointer, _ in errors(as_ada.patch(ME, change))} == {"#/password"}


@pytest.mark.parametrize("blank", BLANK)
def test_staff_can_not_have_a_blank_one(acme: Tenant, blank: str) -> None:
    User.objects.create_superuser("sam@tenantry.example", "Sam Staff", PASSWORD)
    client = Client(headers={"host": "localhost"})
    assert client.login(email="sam@tenantry.example", password=PASSWORD)
    form = {"email": "sue@tenantry.example", "full_name": "Sue", "password1": blank, "password2": blank}
    page = client.post("/admin/accounts/user/add/", {**form, "usable_password": "true"})
    assert "more than spaces" in page.content.decode()
    assert User.objects.count() == 1


def test_a_long_one_is_not_normalised(acme: Tenant) -> None:
    """Which would take quadratic time: the admin's form takes a megabyte."""
    long = "a" + "\u0300\u0316" * 100_000
    with tenant_context(acme):
        user = User(email="x@acme.example", full_name="X")
        user.set_password(long)
        assert user.check_password(long)


def test_the_old_one_is_guessed_as_slowly_as_at_log_in(as_alan: APIClient, alan: User, settings: Settings) -> None:
    """By whoever holds a stolen token. A right guess has to wait, too."""
    settings.LOGIN_MAX_WAIT = 60
    settings.LOGIN_TRIES = -5  # as if there had been some: the first wait is half a minute
    guess = {"password": NEW, "old_password": "wrong"}

    assert as_alan.patch(ME, guess).status_code == 400
    waits = as_alan.patch(ME, {**guess, "old_password": PASSWORD})

    assert (waits.status_code, waits.json()["code"]) == (429, "throttled")
    assert int(waits["Retry-After"]) >= 1
    assert as_alan.get(ME).status_code == 200


def test_a_wrong_old_one_is_logged_as_a_failed_log_in(
    as_alan: APIClient, alan: User, caplog: pytest.LogCaptureFixture
) -> None:
    as_alan.patch(ME, {"password": NEW, "old_password": "wrong"})
    as_alan.patch(ME, {"password": NEW, "old_password": PASSWORD})
    assert log_ins(caplog) == [("log-in failed", alan.email)]


def test_staff_guess_their_old_one_as_slowly_as_at_log_in(
    db: None, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.LOGIN_MAX_WAIT = 60
    settings.LOGIN_TRIES = -5  # as if there had been some: the first wait is half a minute
    sam = add_staff()
    client = client_of_staff(sam)
    new = {"new_password1": NEW, "new_password2": NEW}

    wrong = client.post("/admin/password_change/", {"old_password": "wrong", **new})
    waits = client.post("/admin/password_change/", {"old_password": PASSWORD, **new})

    assert (wrong.status_code, "entered incorrectly" in wrong.content.decode()) == (200, True)
    assert waits.status_code == 429
    assert int(waits["Retry-After"]) >= 1
    sam.refresh_from_db()
    assert sam.check_password(PASSWORD)
    assert log_ins(caplog) == [("log-in failed", sam.email), ("log-in throttled", sam.email)]


def log_ins(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    told: list[Any] = [record for record in caplog.records if record.name == "tenantry.logins"]
    return [(record.message, record.account) for record in told]
