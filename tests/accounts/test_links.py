"""Links that are mailed: what they do, once, and what they die of."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone
from django_tenants.utils import tenant_context
from knox.models import AuthToken
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import link_services
from accounts.errors import DeadLink
from accounts.links import send_link, send_password_links
from accounts.models import Link, User
from jobs.models import Job
from notifications.mailer import transmit
from notifications.models import Message
from notifications.placeholders import PLACEHOLDER
from tenants.connection import connection
from tenants.models import Tenant
from tests.people import LINK, PASSWORD, add_user, at_once, await_blocked, client_of, mailed_links

RunJobs = Callable[..., int]
Mail = Callable[..., str]
USERS, CONFIRMATIONS, PASSWORDS = "/api/v1/users/", "/api/v1/confirmations/", "/api/v1/passwords/"
RESETS, TOKENS = "/api/v1/password-resets/", "/api/v1/tokens/"
NEW = "another horse battery"
ANN = {"email": "ann@acme.example", "full_name": "Ann Ash", "role": "member"}
CONFIRM, SET = Link.Purpose.CONFIRM_ADDRESS, Link.Purpose.SET_PASSWORD


@pytest.fixture
def anybody(client_for: Callable[[Tenant], APIClient], acme: Tenant) -> APIClient:
    return client_for(acme)


@pytest.fixture
def alan(acme: Tenant) -> User:
    """Member of acme, who has not confirmed his address."""
    return add_user(acme, "alan", is_confirmed=False)


@pytest.fixture
def mailed(acme: Tenant, run_jobs: RunJobs) -> Mail:
    """Mails a link to a user; what the mail has."""

    def mailed(user: User, purpose: Link.Purpose = CONFIRM) -> str:
        with tenant_context(acme), transaction.atomic():
            send_link(user, purpose=purpose)
        run_jobs()
        return mailed_links(user.email)[-1]

    return mailed


def reloaded(tenant: Tenant, user: User) -> User:
    with tenant_context(tenant):
        return User.objects.get(pk=user.pk)


def use(client: APIClient, link: str, purpose: Link.Purpose = CONFIRM) -> Any:
    if purpose == CONFIRM:
        return client.post(CONFIRMATIONS, {"link": link})
    return client.post(PASSWORDS, {"link": link, "password": NEW})


def is_dead(answer: Any) -> bool:
    return (answer.status_code, answer.json().get("code")) == (409, "dead_link") if answer.content else False


# Confirming


def test_a_created_user_confirms_their_address(
    as_ada: APIClient, anybody: APIClient, acme: Tenant, run_jobs: RunJobs
) -> None:
    created = as_ada.post(USERS, {**ANN, "password": PASSWORD}).json()
    assert created["is_confirmed"] is False
    run_jobs()
    [link] = mailed_links("ann@acme.example")

    answer = use(anybody, link)

    assert (answer.status_code, answer.content, answer["Cache-Control"]) == (204, b"", "no-store")
    assert as_ada.get(f"{USERS}{created['id']}/").json()["is_confirmed"] is True
    assert is_dead(use(anybody, link))
    run_jobs()
    assert mail.outbox[-1].subject == "Welcome to Acme"
    assert "Ann Ash" in str(mail.outbox[-1].body)


def test_the_owner_who_signs_up_confirms_the_organisation(
    committed_db: None, public_client: APIClient, run_jobs: RunJobs
) -> None:
    owner = {"email": "ira@initech.example", "full_name": "Ira Ink", "password": PASSWORD}
    public_client.post("/api/v1/tenants/", {"name": "Initech", "slug": "initech", "owner": owner})
    run_jobs()
    client = APIClient(headers={"host": "initech.localhost"})
    token = client.post(TOKENS, {"email": owner["email"], "password": PASSWORD}).json()["token"]
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/api/v1/organisation/").json()["is_confirmed"] is False
    assert client.get(f"{USERS}me/").json()["is_confirmed"] is False
    assert client.post(USERS, {**ANN, "password": PASSWORD}).status_code == 201

    [link] = mailed_links(owner["email"])
    assert use(client, link).status_code == 204

    assert client.get("/api/v1/organisation/").json()["is_confirmed"] is True
    assert client.get(f"{USERS}me/").json()["is_confirmed"] is True
    run_jobs()
    assert "Initech is ready" in {sent.subject for sent in mail.outbox}


@pytest.mark.parametrize(("role", "confirms"), [("owner", True), ("admin", False), ("member", False)])
def test_only_an_owner_confirms_the_organisation(
    anybody: APIClient, acme: Tenant, mailed: Mail, role: str, confirms: bool
) -> None:
    Tenant.objects.filter(pk=acme.pk).update(is_confirmed=False)
    assert use(anybody, mailed(add_user(acme, "amos", role, is_confirmed=False))).status_code == 204
    acme.refresh_from_db()
    assert acme.is_confirmed is confirms


def test_users_of_before_and_those_of_commands_are_confirmed(acme: Tenant, as_ada: APIClient) -> None:
    assert acme.is_confirmed
    assert as_ada.get(f"{USERS}me/").json()["is_confirmed"] is True
    with tenant_context(acme), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_user (id, password, is_superuser, email, full_name, role, is_active, is_staff,"
            " created_at) VALUES (gen_random_uuid(), '!', false, 'x@acme.example', 'X', 'member', true, false, now())"
        )
        assert User.objects.get(email="x@acme.example").is_confirmed


# Setting a password


def test_a_user_without_a_password_gets_a_link_to_set_it(
    as_ada: APIClient, anybody: APIClient, acme: Tenant, run_jobs: RunJobs
) -> None:
    assert as_ada.post(USERS, ANN).status_code == 201
    run_jobs()
    assert mail.outbox[0].subject == "You were added to an organisation"
    assert "Acme" not in str(mail.outbox[0].message())
    [link] = mailed_links("ann@acme.example")
    credentials = {"email": "ann@acme.example", "password": NEW}
    assert anybody.post(TOKENS, credentials).status_code == 401

    answer = use(anybody, link, SET)

    assert (answer.status_code, answer.content, answer["Cache-Control"]) == (204, b"", "no-store")
    assert anybody.post(TOKENS, credentials).status_code == 201
    assert is_dead(use(anybody, link, SET))
    with tenant_context(acme):
        assert User.objects.get(email="ann@acme.example").is_confirmed


def test_a_reset_ends_the_tokens(anybody: APIClient, acme: Tenant, alan: User, ada: User, mailed: Mail) -> None:
    as_alan, as_ada = client_of(acme, alan), client_of(acme, ada)
    assert use(anybody, mailed(alan, SET), SET).status_code == 204
    assert as_alan.get(f"{USERS}me/").status_code == 401
    assert as_ada.get(f"{USERS}me/").status_code == 200


@pytest.mark.parametrize("password", ["short", "alan@acme.example", "          ", ""])
def test_a_weak_password_leaves_the_link_alive(anybody: APIClient, alan: User, mailed: Mail, password: str) -> None:
    link = mailed(alan, SET)
    refused = anybody.post(PASSWORDS, {"link": link, "password": password})
    assert {error["pointer"] for error in refused.json()["errors"]} == {"#/password"}
    assert use(anybody, link, SET).status_code == 204


def test_a_reset_is_by_mail(anybody: APIClient, acme: Tenant, ada: User, run_jobs: RunJobs) -> None:
    anybody.post(RESETS, {"email": "ADA@Acme.Example"})
    run_jobs()
    assert mail.outbox[0].subject == "Set your password"
    [link] = mailed_links(ada.email)
    assert use(anybody, link, SET).status_code == 204
    assert anybody.post(TOKENS, {"email": ada.email, "password": NEW}).status_code == 201


def test_a_reset_tells_nobody_whether_an_address_exists(
    anybody: APIClient, acme: Tenant, globex: Tenant, ada: User, run_jobs: RunJobs
) -> None:
    gone = add_user(acme, "abe", is_active=False)
    elsewhere = add_user(globex, "gus")
    seen = []
    for email in (ada.email, "nobody@acme.example", gone.email, elsewhere.email):
        before = Job.objects.count()
        with connection.execute_wrapper(counting := Counting()):
            answer = anybody.post(RESETS, {"email": email})
        headers = {name: value for name, value in answer.items() if name != "X-Request-ID"}
        seen.append((answer.status_code, answer.content, headers, counting.shapes, Job.objects.count() - before))
    assert seen == [seen[0]] * 4
    assert (seen[0][0], seen[0][1], seen[0][-1]) == (202, b"", 1)
    run_jobs()
    assert [sent.to for sent in mail.outbox] == [[ada.email]]


def test_a_stranger_does_not_kill_a_link_that_was_just_mailed(
    anybody: APIClient, acme: Tenant, ada: User, run_jobs: RunJobs
) -> None:
    for _ in range(3):
        anybody.post(RESETS, {"email": ada.email})
        run_jobs()
    [link] = mailed_links(ada.email)
    pass_time(acme, minutes=14)
    anybody.post(RESETS, {"email": ada.email})
    run_jobs()
    assert mailed_links(ada.email) == [link]
    pass_time(acme, minutes=2)
    anybody.post(RESETS, {"email": ada.email})
    run_jobs()
    [link, newer] = mailed_links(ada.email)
    assert is_dead(use(anybody, link, SET))
    assert use(anybody, newer, SET).status_code == 204


def test_after_five_in_a_day_the_last_link_stays_alive(
    anybody: APIClient, acme: Tenant, ada: User, run_jobs: RunJobs
) -> None:
    for _ in range(8):
        anybody.post(RESETS, {"email": ada.email})
        run_jobs()
        pass_time(acme, minutes=16)
    links = mailed_links(ada.email)
    assert len(set(links)) == len(links) == 5
    assert use(anybody, links[-1], SET).status_code == 204


def test_resets_of_strangers_leave_an_unconfirmed_organisation_its_confirmations(
    anybody: APIClient, acme: Tenant, run_jobs: RunJobs, settings: Settings
) -> None:
    settings.UNCONFIRMED_MAILS = 2
    Tenant.objects.filter(pk=acme.pk).update(is_confirmed=False)
    owner = add_user(acme, "olga", "owner", is_confirmed=False)
    other = add_user(acme, "otto", is_confirmed=False)
    for user in (owner, owner, owner, other):
        anybody.post(RESETS, {"email": user.email})
        run_jobs()
        pass_time(acme, minutes=16)
    assert [len(mailed_links(user.email)) for user in (owner, other)] == [2, 0]

    client_of(acme, owner).post(f"{USERS}{owner.pk}/link/")
    run_jobs()

    assert use(anybody, mailed_links(owner.email)[-1]).status_code == 204
    acme.refresh_from_db()
    assert acme.is_confirmed


def test_beyond_the_limit_of_mails_a_link_is_not_replaced(
    anybody: APIClient, acme: Tenant, alan: User, run_jobs: RunJobs, settings: Settings
) -> None:
    settings.UNCONFIRMED_MAILS = 1
    as_alan = client_of(acme, alan)
    for _ in range(3):  # the second is asked for while the first is queued
        as_alan.post(f"{USERS}{alan.pk}/link/")
    run_jobs()
    [link] = mailed_links(alan.email)
    as_alan.post(f"{USERS}{alan.pk}/link/")
    run_jobs()
    with tenant_context(acme):
        assert sorted(Message.objects.values_list("status", flat=True)) == ["failed"] * 3 + ["sent"]
    assert use(anybody, link).status_code == 204


def test_of_two_strangers_at_once_one_replaces_the_link(committed_db: None, acme: Tenant, run_jobs: RunJobs) -> None:
    alan = add_user(acme, "alan")

    def ask() -> None:
        with tenant_context(acme), transaction.atomic():
            send_password_links(email=alan.email)

    at_once(ask, ask, ask)
    run_jobs()
    [link] = mailed_links(alan.email)
    assert use(APIClient(headers={"host": "acme.localhost"}), link, SET).status_code == 204


def pass_time(tenant: Tenant, *, minutes: int) -> None:
    """Links get older."""
    with tenant_context(tenant):
        Link.objects.update(expires_at=F("expires_at") - timedelta(minutes=minutes))


class Counting:
    """The statements of a block, without their parameters."""

    def __init__(self) -> None:
        self.shapes: list[str] = []

    def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
        self.shapes.append(re.sub(r"\d+", "", str(sql)))  # savepoints are numbered
        return execute(sql, *args)


# A new one


def test_a_new_link_is_sent_and_the_one_before_dies(
    as_ada: APIClient, anybody: APIClient, alan: User, mailed: Mail, run_jobs: RunJobs
) -> None:
    first = mailed(alan)
    answer = as_ada.post(f"{USERS}{alan.pk}/link/")
    assert answer.status_code == 202
    [job] = answer.json()["jobs"]
    assert str(Job.objects.get().pk) == job
    assert is_dead(use(anybody, first))
    run_jobs()
    assert use(anybody, mailed_links(alan.email)[-1]).status_code == 204


def test_whoever_has_no_password_gets_a_new_link_to_set_it(
    as_ada: APIClient, anybody: APIClient, acme: Tenant, run_jobs: RunJobs
) -> None:
    created = as_ada.post(USERS, ANN).json()
    as_ada.post(f"{USERS}{created['id']}/link/")
    run_jobs()
    assert use(anybody, mailed_links("ann@acme.example")[-1], SET).status_code == 204


def test_who_may_send_a_new_link(acme: Tenant, as_ada: APIClient, alan: User, gus: User) -> None:
    as_alan = client_of(acme, alan)
    assert as_alan.post(f"{USERS}{alan.pk}/link/").status_code == 202
    other = add_user(acme, "amos", is_confirmed=False)
    assert as_alan.post(f"{USERS}{other.pk}/link/").status_code == 404
    assert as_ada.post(f"{USERS}{gus.pk}/link/").status_code == 404
    assert as_ada.post(f"{USERS}{alan.pk}/link/", {"more": 1}).status_code == 400


def test_who_has_confirmed_needs_none(as_ada: APIClient, ada: User) -> None:
    answer = as_ada.post(f"{USERS}{ada.pk}/link/")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_confirmed")


# What it dies of


def other_address(alan: User) -> None:
    User.objects.filter(pk=alan.pk).update(email="alan@elsewhere.example")


def other_case(alan: User) -> None:
    User.objects.filter(pk=alan.pk).update(email="Alan@acme.example")


def deactivation(alan: User) -> None:
    User.objects.filter(pk=alan.pk).update(is_active=False)


def time(alan: User) -> None:
    Link.objects.update(expires_at=timezone.now())


def a_new_one(alan: User) -> None:
    with transaction.atomic():
        send_link(alan, purpose=CONFIRM)
        send_link(alan, purpose=SET)


@pytest.mark.parametrize("purpose", Link.Purpose)
@pytest.mark.parametrize("death", [other_address, other_case, deactivation, time, a_new_one])
def test_what_a_link_dies_of(
    anybody: APIClient, acme: Tenant, alan: User, mailed: Mail, purpose: Link.Purpose, death: Callable[[User], None]
) -> None:
    link = mailed(alan, purpose)
    with tenant_context(acme):
        death(alan)
    assert is_dead(use(anybody, link, purpose))


def test_deactivation_kills_it_for_good(as_ada: APIClient, anybody: APIClient, alan: User, mailed: Mail) -> None:
    link = mailed(alan)
    for is_active in (False, True):
        as_ada.patch(f"{USERS}{alan.pk}/", {"is_active": is_active})
    assert is_dead(use(anybody, link))


def test_a_changed_password_kills_the_link_to_set_one(
    anybody: APIClient, acme: Tenant, alan: User, mailed: Mail
) -> None:
    link = mailed(alan, SET)
    client_of(acme, alan).patch(f"{USERS}me/", {"password": "third horse battery", "old_password": PASSWORD})
    assert is_dead(use(anybody, link, SET))


def test_setting_a_password_kills_the_link_to_confirm(anybody: APIClient, alan: User, mailed: Mail) -> None:
    to_confirm, to_set = mailed(alan), mailed(alan, SET)
    assert use(anybody, to_set, SET).status_code == 204
    assert is_dead(use(anybody, to_confirm))


def test_a_link_is_good_for_one_thing(anybody: APIClient, acme: Tenant, alan: User, mailed: Mail) -> None:
    to_confirm, to_set = mailed(alan), mailed(alan, SET)
    at_passwords, at_confirmations = use(anybody, to_confirm, SET), use(anybody, to_set, CONFIRM)
    assert is_dead(at_passwords)
    assert "to confirm an address: send it to `/api/v1/confirmations/`" in at_passwords.json()["detail"]
    assert is_dead(at_confirmations)
    assert "to set a password: send it, with the password, to `/api/v1/passwords/`" in at_confirmations.json()["detail"]
    assert not reloaded(acme, alan).is_confirmed


def test_a_link_is_good_in_its_own_organisation(
    client_for: Callable[[Tenant], APIClient], globex: Tenant, alan: User, mailed: Mail
) -> None:
    assert is_dead(use(client_for(globex), mailed(alan)))


@pytest.mark.parametrize("changed", [0, 31, 32, 95])
def test_another_link_is_none(anybody: APIClient, acme: Tenant, alan: User, mailed: Mail, changed: int) -> None:
    link = mailed(alan)
    other = link[:changed] + ("0" if link[changed] != "0" else "1") + link[changed + 1 :]
    assert is_dead(use(anybody, other))
    assert not reloaded(acme, alan).is_confirmed


@pytest.mark.parametrize("link", ["", "x", "0f" * 47, "0F" * 48, "0f" * 48 + "\n", "٣" * 96, 7, None, ["0f" * 48]])
def test_what_is_no_link(anybody: APIClient, link: Any) -> None:
    for answer in (
        anybody.post(CONFIRMATIONS, {"link": link}),
        anybody.post(PASSWORDS, {"link": link, "password": NEW}),
    ):
        assert answer.status_code == 400
        assert {error["pointer"] for error in answer.json()["errors"]} == {"#/link"}


@pytest.mark.parametrize("link", ["abc", "http://acme.localhost/link/?link=" + "0f" * 48])
def test_a_part_of_a_link_or_more_is_told_what_to_send(anybody: APIClient, link: str) -> None:
    [error] = anybody.post(CONFIRMATIONS, {"link": link}).json()["errors"]
    assert "Send what follows `link=`" in error["detail"]


def test_of_two_who_use_a_link_at_once_one_does(committed_db: None, acme: Tenant, run_jobs: RunJobs) -> None:
    alan = add_user(acme, "alan", is_confirmed=False)
    with tenant_context(acme), transaction.atomic():
        send_link(alan, purpose=SET)
    run_jobs()
    [link] = mailed_links(alan.email)
    used = threading.Event()

    def first() -> None:
        with tenant_context(acme), transaction.atomic():
            link_services.set_password(link=link, password=NEW)
            used.set()
            await_blocked()

    def second() -> None:
        used.wait(5)
        with tenant_context(acme), pytest.raises(DeadLink):
            link_services.set_password(link=link, password="a late horse battery")

    at_once(first, second)
    assert reloaded(acme, alan).check_password(NEW)


def test_of_two_new_links_at_once_one_works(committed_db: None, acme: Tenant, run_jobs: RunJobs) -> None:
    alan = add_user(acme, "alan", is_confirmed=False)

    def send() -> None:
        with tenant_context(acme), transaction.atomic():
            send_link(alan, purpose=CONFIRM)

    at_once(send, send, send)
    run_jobs()
    client = APIClient(headers={"host": "acme.localhost"})
    links = mailed_links(alan.email)
    assert len(set(links)) == 3
    assert sorted(use(client, link).status_code for link in links) == [204, 409, 409]


# Its secret


def test_what_is_stored_has_no_secret(
    as_ada: APIClient, acme: Tenant, run_jobs: RunJobs, caplog: pytest.LogCaptureFixture
) -> None:
    as_ada.post(USERS, ANN, headers={"idempotency-key": "one"})
    run_jobs()
    [link] = mailed_links("ann@acme.example")
    with tenant_context(acme):
        message = Message.objects.get()
        assert (Link.objects.get().pk.hex, message.status) == (link[:32], "sent")
    for form in (message.text, message.html):
        assert f"{link[:32]}{PLACEHOLDER}" in form
    secret = link[32:]
    assert secret not in caplog.text
    assert tables_with(link[:32]) == [f"{acme.schema_name}.notifications_message"]
    assert tables_with(secret) == []
    for sent in mail.outbox:
        assert PLACEHOLDER not in str(sent.message())


def tables_with(text: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        tables = cursor.fetchall()
        found = []
        for schema, table in tables:
            cursor.execute(f'SELECT count(*) FROM "{schema}"."{table}" AS line WHERE line::text LIKE %s', [f"%{text}%"])
            if cursor.fetchone() != (0,):
                found.append(f"{schema}.{table}")
    return found


def test_each_try_sends_the_same_link(acme: Tenant, alan: User, mailed: Mail) -> None:
    first = mailed(alan)
    with tenant_context(acme):
        transmit(Message.objects.get())
    assert mailed_links(alan.email) == [first, first]
    outbox: list[Any] = mail.outbox
    in_html = [LINK.findall(sent.alternatives[0][0]) for sent in outbox]
    assert in_html == [[first, first]] * 2


def test_a_key_that_was_replaced_verifies_links_in_flight(
    anybody: APIClient, alan: User, mailed: Mail, settings: Settings
) -> None:
    link = mailed(alan)
    before, settings.SECRET_KEY = settings.SECRET_KEY, "another key, long and random enough for this"
    assert is_dead(use(anybody, link))
    settings.SECRET_KEY_FALLBACKS = ["an older key", before]
    assert use(anybody, link).status_code == 204


def test_a_new_key_derives_new_links(anybody: APIClient, alan: User, mailed: Mail, settings: Settings) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key, long and random enough for this"
    link = mailed(alan)
    settings.SECRET_KEY_FALLBACKS = []
    assert use(anybody, link).status_code == 204


def test_a_link_leads_to_the_host_that_the_settings_name(
    as_ada: APIClient, acme: Tenant, settings: Settings, run_jobs: RunJobs
) -> None:
    settings.SCHEME, settings.PORT = "https", ""
    as_ada.post(USERS, ANN, headers={"host": "acme.localhost:6666"})
    run_jobs()
    assert "https://acme.localhost/link/?link=" in str(mail.outbox[0].body)
    assert ":6666" not in str(mail.outbox[0].message())


def test_how_long_they_last(acme: Tenant, alan: User, mailed: Mail) -> None:
    mailed(alan), mailed(alan, SET)
    with tenant_context(acme):
        lasting = {link.purpose: link.expires_at - timezone.now() for link in Link.objects.all()}
    assert timedelta(days=6.9) < lasting[CONFIRM] < timedelta(days=7.1)
    assert timedelta(days=2.9) < lasting[SET] < timedelta(days=3.1)


# The page


@pytest.fixture
def browser(acme: Tenant) -> Client:
    return Client(enforce_csrf_checks=True, headers={"host": "acme.localhost"})


def test_a_person_confirms_on_the_page(browser: Client, acme: Tenant, alan: User, mailed: Mail) -> None:
    link = mailed(alan)
    for method in (browser.get, browser.head, browser.get):
        page = method("/link/", {"link": link})
        assert page.status_code == 200
        assert (page["Cache-Control"], page["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert alan.email in page.content.decode()
    assert not reloaded(acme, alan).is_confirmed
    assert not browser.cookies

    done = browser.post("/link/", {"link": link})
    assert (done.status_code, "is confirmed" in done.content.decode()) == (200, True)
    assert reloaded(acme, alan).is_confirmed
    assert browser.post("/link/", {"link": link}).status_code == 410
    assert browser.get("/link/", {"link": link}).status_code == 410


def test_a_person_sets_a_password_on_the_page(browser: Client, acme: Tenant, alan: User, mailed: Mail) -> None:
    link = mailed(alan, SET)
    assert 'type="password"' in browser.get("/link/", {"link": link}).content.decode()
    for weak in ("short", " " * 12, "x" * 300, ""):
        refused = browser.post("/link/", {"link": link, "password": weak})
        assert (refused.status_code, 'class="error"' in refused.content.decode()) == (400, True)
    done = browser.post("/link/", {"link": link, "password": NEW})
    assert (done.status_code, "You can log in" in done.content.decode()) == (200, True)
    assert reloaded(acme, alan).check_password(NEW)
    with tenant_context(acme):
        assert not AuthToken.objects.exists()


@pytest.mark.parametrize("link", ["", "x", "0f" * 48, "\x00", "<script>", "٣" * 96])
def test_the_page_of_no_link(browser: Client, link: str) -> None:
    for answer in (
        browser.get("/link/", {"link": link}),
        browser.post("/link/", {"link": link}),
        browser.post("/link/", {"link": link, "password": NEW}),
    ):
        assert answer.status_code == 410
        assert "<script" not in answer.content.decode()


def test_the_page_runs_no_script_and_has_no_style_of_its_own(browser: Client, alan: User, mailed: Mail) -> None:
    for purpose in Link.Purpose:
        page = browser.get("/link/", {"link": mailed(alan, purpose)}).content.decode()
        assert "<script" not in page
        assert "<style" not in page
        assert "style=" not in page
        assert "http" not in page.replace("http-equiv", "")


def test_the_page_takes_nothing_else(browser: Client) -> None:
    assert browser.put("/link/").status_code == 405
    assert browser.delete("/link/").status_code == 405


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"x", "multipart/form-data; boundary=y"),
        (b"x", "multipart/form-data"),
        (b"link=%ff%00&password=%ff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=b" for _ in range(2_000)), "application/x-www-form-urlencoded"),
        (b'{"link": "x"}', "application/json"),
        (b"\xff\x00", "text/plain"),
    ],
)
def test_what_is_no_form(browser: Client, body: bytes, content_type: str) -> None:
    answer = browser.post("/link/", body, content_type=content_type)
    assert answer.status_code in (400, 410)
