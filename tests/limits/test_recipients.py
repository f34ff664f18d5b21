"""How many mails an address gets that nobody has confirmed, from all organisations together."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django_tenants.utils import tenant_context
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.links import send_link
from accounts.models import Link, User
from limits import counts
from limits.counts import Circuit
from notifications import delivery
from notifications.models import Message
from notifications.services import send_message
from tenants.models import Tenant
from tests.limits.conftest import Clock
from tests.people import PASSWORD, add_user, at_once, client_of, mailed_links

RunJobs = Callable[..., int]
Rates = Callable[..., None]
Somewhere = Callable[[], str]
USERS, RESETS = "/api/v1/users/", "/api/v1/password-resets/"
DAY = 24 * 60 * 60
HERE = "192.0.2.7"


@pytest.fixture(autouse=True)
def _few(rates: Rates, settings: Settings) -> None:
    rates(unconfirmed_recipient="2/day")
    settings.UNCONFIRMED_MAILS = 20


@pytest.fixture
def owners(acme: Tenant, globex: Tenant) -> list[APIClient]:
    """Owners of two organisations, whom one stranger of bad will pays."""
    return [client_of(tenant, add_user(tenant, "ada", "owner")) for tenant in (acme, globex)]


def invite(owner: APIClient, email: str) -> Any:
    answer = owner.post(USERS, {"email": email, "full_name": "Vic", "role": "member", "password": PASSWORD})
    assert answer.status_code == 201
    return answer.json()


def statuses(tenant: Tenant) -> list[str]:
    with tenant_context(tenant):
        return list(Message.objects.order_by("pk").values_list("status", flat=True))


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    told: list[Any] = [record for record in caplog.records if record.name == "tenantry.mails"]
    return [(line.message, line.levelname, line.account, line.tenant, line.limit, line.address) for line in told]


def test_one_address_gets_few_however_many_organisations_write(
    owners: list[APIClient], acme: Tenant, globex: Tenant, run_jobs: RunJobs, clock: Clock
) -> None:
    at_acme, at_globex = owners
    invite(at_acme, "vic@elsewhere.example")
    user = invite(at_globex, "VIC@Elsewhere.example")
    run_jobs()
    for _ in range(3):
        assert at_globex.post(f"{USERS}{user['id']}/link/").status_code == 202
        run_jobs()

    assert [sent.to[0].lower() for sent in mail.outbox] == ["vic@elsewhere.example"] * 2
    assert statuses(globex) == ["sent"] + ["failed"] * 3
    # Others get theirs.
    invite(at_globex, "val@elsewhere.example")
    run_jobs()
    assert mail.outbox[-1].to == ["val@elsewhere.example"]

    clock.now += DAY
    at_globex.post(f"{USERS}{user['id']}/link/")
    run_jobs()
    assert mail.outbox[-1].to == ["VIC@elsewhere.example"]


@pytest.mark.parametrize(
    "spelling",
    ["VIC@XN--BCHER-KVA.example", "vic@BU\u0308CHER.example", "vic+1@bücher.example", "VIC+a+b@bücher.example"],
)
def test_no_spelling_is_another_mailbox(
    owners: list[APIClient], run_jobs: RunJobs, clock: Clock, rates: Rates, spelling: str
) -> None:
    rates(unconfirmed_recipient="1/day")
    at_acme, at_globex = owners
    invite(at_acme, "vic@bücher.example")
    invite(at_globex, spelling)
    run_jobs()
    assert len(mail.outbox) == 1


def test_beyond_it_a_link_that_was_mailed_stays_alive(
    owners: list[APIClient], acme: Tenant, run_jobs: RunJobs, clock: Clock, rates: Rates
) -> None:
    rates(unconfirmed_recipient="1/day")
    at_acme, _ = owners
    user = invite(at_acme, "vic@elsewhere.example")
    run_jobs()
    at_acme.post(f"{USERS}{user['id']}/link/")
    run_jobs()
    [link] = mailed_links("vic@elsewhere.example")
    client = APIClient(headers={"host": "acme.localhost"})
    assert client.post("/api/v1/confirmations/", {"link": link}).status_code == 204
    with tenant_context(acme):
        [error] = Message.objects.filter(status="failed").values_list("error", flat=True)
    assert error == delivery.TOO_MANY_TO_ONE


def test_resets_count_and_are_told_to_nobody_but_the_operator(
    acme: Tenant, globex: Tenant, run_jobs: RunJobs, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for tenant in (acme, globex):
        with tenant_context(tenant):
            User.objects.create(email="vic@elsewhere.example", full_name="Vic", is_confirmed=False)
    anybody = [APIClient(headers={"host": f"{slug}.localhost"}, REMOTE_ADDR=HERE) for slug in ("acme", "globex")]
    answers = []
    for number in range(4):
        answers.append(anybody[number % 2].post(RESETS, {"email": "vic@elsewhere.example"}))
        run_jobs()
        for tenant in (acme, globex):
            with tenant_context(tenant):
                Link.objects.all().delete()  # or the pause between two would hold the next one back
    answers.append(anybody[0].post(RESETS, {"email": "nobody@elsewhere.example"}))

    assert {(answer.status_code, answer.content) for answer in answers} == {(202, b"")}
    assert len(mail.outbox) == 2
    assert lines(caplog) == [
        ("mail refused", "WARNING", "vic@elsewhere.example", slug, "unconfirmed_recipient", HERE)
        for slug in ("acme", "globex")
    ]


def test_a_reset_within_the_pause_uses_nothing_up_and_leaves_a_line(
    acme: Tenant, run_jobs: RunJobs, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    vic = add_user(acme, "vic", is_confirmed=False)
    anybody = APIClient(headers={"host": "acme.localhost"}, REMOTE_ADDR=HERE)
    for _ in range(4):
        anybody.post(RESETS, {"email": vic.email})
        run_jobs()
    assert lines(caplog) == [("mail refused", "WARNING", vic.email, "acme", "reset_pause", HERE)] * 3
    with tenant_context(acme), transaction.atomic():
        send_link(vic, purpose=Link.Purpose.CONFIRM_ADDRESS)
    run_jobs()
    assert len(mail.outbox) == 2


def test_resets_beyond_the_limit_of_strangers_leave_a_line_each(
    acme: Tenant, run_jobs: RunJobs, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ada = add_user(acme, "ada", "owner")
    anybody = APIClient(headers={"host": "acme.localhost"}, REMOTE_ADDR=HERE)
    for _ in range(7):
        anybody.post(RESETS, {"email": ada.email})
        run_jobs()
        with tenant_context(acme):
            Link.objects.all().delete()
    assert len(mail.outbox) == 5  # her address is confirmed, so the limit of this file is none of hers
    assert lines(caplog) == [("mail refused", "WARNING", ada.email, "acme", "mails_by_strangers", HERE)] * 2


def test_notices_count_too(acme: Tenant, globex: Tenant, run_jobs: RunJobs, clock: Clock) -> None:
    for tenant in (acme, globex):
        with tenant_context(tenant), transaction.atomic():
            User.objects.create(email="vic@elsewhere.example", full_name="Vic", is_confirmed=False)
            for _ in range(2):
                context = {"full_name": "Vic", "login_url": "http://evil.example/"}
                send_message(to="vic@elsewhere.example", template="welcome_user", context=context)
    run_jobs()
    assert sorted(statuses(acme) + statuses(globex)) == ["failed", "failed", "sent", "sent"]


def test_a_confirmed_address_is_not_counted(
    acme: Tenant, globex: Tenant, run_jobs: RunJobs, clock: Clock, rates: Rates
) -> None:
    rates(unconfirmed_recipient="0/day")
    ada = add_user(acme, "ada", "owner")
    with tenant_context(acme), transaction.atomic():
        send_link(ada, purpose=Link.Purpose.SET_PASSWORD)
        context = {"full_name": "Ada", "login_url": "http://acme.localhost/"}
        send_message(to="customer@elsewhere.example", template="welcome_user", context=context)
    run_jobs()
    assert statuses(acme) == ["sent", "sent"]


@pytest.mark.parametrize("store", ["in Redis", "in memory"])
def test_of_many_at_once_no_more_go(
    committed_db: None,
    acme: Tenant,
    globex: Tenant,
    somewhere: Somewhere,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
) -> None:
    if store == "in Redis":
        monkeypatch.setattr(counts, "circuit", Circuit())
    to = f"vic-{somewhere()}@elsewhere.example"  # Redis keeps what earlier tests have counted
    tries = []
    for tenant in (acme, globex):
        with tenant_context(tenant):
            User.objects.create(email=to, full_name="Vic", is_confirmed=False)
            for _ in range(4):
                with transaction.atomic():
                    message, _ = send_message(to=to, template="welcome_user", context={})
                tries.append((tenant, str(message.pk)))

    def attempt(tenant: Tenant, message_id: str) -> int:
        with tenant_context(tenant):
            return delivery.begin_attempt(message_id=message_id).attempts

    attempts = at_once(*[lambda one=one: attempt(*one) for one in tries])
    assert sorted(attempts) == [0] * 6 + [1] * 2
    assert counts.circuit.closed == (store == "in Redis")


def test_no_subject_has_a_word_of_a_client(acme: Tenant, run_jobs: RunJobs, clock: Clock, rates: Rates) -> None:
    rates()
    Tenant.objects.filter(pk=acme.pk).update(name="Evil")
    vic, val = (add_user(acme, name, is_confirmed=False) for name in ("vic", "val"))
    val.set_unusable_password()
    with tenant_context(acme), transaction.atomic():
        val.save()
        for user in (vic, val):
            for purpose in Link.Purpose:
                send_link(user, purpose=purpose)
        send_message(to=vic.email, template="welcome_user", context={})
    run_jobs()
    assert {sent.subject for sent in mail.outbox} == {
        "Confirm your address",
        "Set your password",
        "You were added to an organisation",
        "A message for you",
    }


def test_a_mail_that_waits_leaves_a_line(
    acme: Tenant, run_jobs: RunJobs, clock: Clock, rates: Rates, caplog: pytest.LogCaptureFixture
) -> None:
    rates(mail="1/day")
    with tenant_context(acme), transaction.atomic():
        for to in ("ann@acme.example", "bob@acme.example"):
            send_message(to=to, template="welcome_user", context={})
    run_jobs()
    assert lines(caplog) == [("mail refused", "WARNING", "bob@acme.example", "acme", "mail", None)]


def test_an_organisation_that_is_not_confirmed_leaves_a_line_for_each_it_may_not_send(
    acme: Tenant, run_jobs: RunJobs, clock: Clock, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.UNCONFIRMED_MAILS = 1
    Tenant.objects.filter(pk=acme.pk).update(is_confirmed=False)
    with tenant_context(acme), transaction.atomic():
        for to in ("ann@acme.example", "bob@acme.example"):
            send_message(to=to, template="welcome_user", context={})
    run_jobs()
    assert lines(caplog) == [("mail refused", "WARNING", "bob@acme.example", "acme", "unconfirmed_mails", None)]


def test_a_key_beyond_the_quota_names_its_limit(
    owners: list[APIClient], rates: Rates, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    rates(idempotency_key="0/day")
    answer = owners[0].post(USERS, {"email": "x@acme.example"}, headers={"idempotency-key": "1"})
    assert answer.status_code == 429
    [line] = [record for record in caplog.records if record.name == "tenantry.requests"]
    assert (line.levelname, vars(line)["limit"]) == ("WARNING", "idempotency_key")
