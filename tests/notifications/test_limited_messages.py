"""Mails to addresses that nobody has confirmed: what they hold, and how many go."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django_tenants.utils import tenant_context
from pytest_django import Settings

from accounts.models import User
from notifications import delivery
from notifications.limited import take_place
from notifications.models import Message
from notifications.services import send_message
from tenants.models import Tenant
from tests.people import add_user, at_once

RunJobs = Callable[..., int]
CONTEXT = {"full_name": "Ada", "login_url": "http://evil.example/"}


@pytest.fixture
def unconfirmed(acme: Tenant) -> Tenant:
    """acme, of which no owner has confirmed their address."""
    Tenant.objects.filter(pk=acme.pk).update(is_confirmed=False, name="Evil")
    return acme


def send(tenant: Tenant, to: str, times: int = 1, secret_name: str = "", is_promised: bool = False) -> list[Message]:
    terms: dict[str, Any] = {"secret_name": secret_name, "is_promised": is_promised}
    with tenant_context(tenant), transaction.atomic():
        return [send_message(to=to, template="welcome_user", context=CONTEXT, **terms)[0] for _ in range(times)]


def statuses(tenant: Tenant) -> list[str]:
    with tenant_context(tenant):
        return list(Message.objects.order_by("pk").values_list("status", flat=True))


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_an_address_that_nobody_has_confirmed_gets_a_fixed_text(
    unconfirmed: Tenant, run_jobs: RunJobs, is_confirmed: bool
) -> None:
    alan = add_user(unconfirmed, "alan", is_confirmed=False)
    Tenant.objects.update(is_confirmed=is_confirmed)
    [message] = send(unconfirmed, "ALAN@acme.example")
    run_jobs()
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == (["ALAN@acme.example"], "A message for you")
    assert message.is_limited
    assert sent.body == message.text
    for word in ("evil", "Evil", "Ada", alan.full_name):
        assert word not in str(sent.message())


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_one_that_is_confirmed_gets_the_mail(unconfirmed: Tenant, run_jobs: RunJobs, is_confirmed: bool) -> None:
    add_user(unconfirmed, "alan")
    Tenant.objects.update(is_confirmed=is_confirmed)
    send(unconfirmed, "Alan@acme.example")
    run_jobs()
    assert mail.outbox[0].subject == "Welcome to Evil"


def test_for_nobodys_address_the_organisation_answers(unconfirmed: Tenant, globex: Tenant, run_jobs: RunJobs) -> None:
    send(unconfirmed, "customer@elsewhere.example")
    send(globex, "customer@elsewhere.example")
    run_jobs()
    assert [sent.subject for sent in mail.outbox] == ["A message for you", "Welcome to Globex"]


def test_an_unconfirmed_organisation_sends_few(unconfirmed: Tenant, run_jobs: RunJobs, settings: Settings) -> None:
    settings.UNCONFIRMED_MAILS = 3
    for name in ("alan", "amy"):
        add_user(unconfirmed, name, is_confirmed=False)
    add_user(unconfirmed, "ada")
    for to in ("alan@acme.example", "amy@acme.example", "x@elsewhere.example", "ada@acme.example"):
        send(unconfirmed, to, times=2)
    run_jobs()
    assert statuses(unconfirmed) == ["sent"] * 3 + ["failed"] * 3 + ["sent"] * 2
    assert len(mail.outbox) == 5
    with tenant_context(unconfirmed):
        [error] = Message.objects.filter(status="failed").values_list("error", flat=True).distinct()
    assert "Let an owner confirm theirs first" in error
    assert "POST /api/v1/users/{id}/link/" in error


def test_a_confirmed_one_sends_few_to_one_address_in_a_day(acme: Tenant, run_jobs: RunJobs, settings: Settings) -> None:
    settings.UNCONFIRMED_MAILS = 2
    for name in ("alan", "amy"):
        add_user(acme, name, is_confirmed=False)
        send(acme, f"{name}@acme.example", times=3)
    run_jobs()
    assert statuses(acme) == ["sent", "sent", "failed"] * 2
    with tenant_context(acme):
        [error] = Message.objects.filter(status="failed").values_list("error", flat=True).distinct()
        assert "a day later" in error
        Message.objects.update(created_at="2000-01-01T00:00Z")
    send(acme, "alan@acme.example")
    run_jobs()
    assert statuses(acme)[-1] == "sent"


def test_so_few_links_go_to_a_confirmed_address(acme: Tenant, run_jobs: RunJobs, settings: Settings) -> None:
    settings.UNCONFIRMED_MAILS = 2
    add_user(acme, "alan")
    send(acme, "alan@acme.example", times=3, secret_name="x")
    send(acme, "alan@acme.example", times=3)
    run_jobs()
    assert statuses(acme) == ["sent", "sent", "failed", "sent", "sent", "sent"]


def test_a_message_counts_once_however_often_it_is_tried(unconfirmed: Tenant, settings: Settings) -> None:
    settings.UNCONFIRMED_MAILS = 2
    messages = send(unconfirmed, "x@elsewhere.example", times=3)
    with tenant_context(unconfirmed):
        for message in (messages[0], messages[0], messages[1], messages[0], messages[2]):
            delivery.begin_attempt(message_id=str(message.pk))
    assert statuses(unconfirmed) == ["queued", "queued", "failed"]


def test_a_link_that_was_promised_goes_before_what_is_tried_first(
    unconfirmed: Tenant, run_jobs: RunJobs, settings: Settings
) -> None:
    settings.UNCONFIRMED_MAILS = 1
    send(unconfirmed, "x@elsewhere.example")
    with tenant_context(unconfirmed), transaction.atomic():
        assert take_place(to="y@elsewhere.example") == ""
        send(unconfirmed, "y@elsewhere.example", secret_name="x", is_promised=True)
        assert take_place(to="y@elsewhere.example") == "unconfirmed_mails"
    run_jobs()
    assert statuses(unconfirmed) == ["failed", "sent"]


def test_a_link_that_was_promised_goes_before_one_beyond_the_limit(unconfirmed: Tenant, settings: Settings) -> None:
    settings.UNCONFIRMED_MAILS = 1
    [promised] = send(unconfirmed, "x@elsewhere.example", secret_name="x", is_promised=True)
    [beyond] = send(unconfirmed, "x@elsewhere.example", secret_name="x")
    with tenant_context(unconfirmed):
        for message in (beyond, promised):
            delivery.begin_attempt(message_id=str(message.pk))
    assert statuses(unconfirmed) == ["queued", "failed"]


def test_of_many_at_once_no_more_go(committed_db: None, acme: Tenant, settings: Settings) -> None:
    settings.UNCONFIRMED_MAILS = 3
    Tenant.objects.filter(pk=acme.pk).update(is_confirmed=False)
    messages = send(acme, "x@elsewhere.example", times=8)

    def attempt(message: Message) -> int:
        with tenant_context(acme):
            return delivery.begin_attempt(message_id=str(message.pk)).attempts

    assert sorted(at_once(*[lambda message=message: attempt(message) for message in messages])) == [0] * 5 + [1] * 3
    Tenant.objects.filter(pk=acme.pk).update(is_confirmed=True)


def test_messages_of_the_release_before_are_sent(acme: Tenant, run_jobs: RunJobs, settings: Settings) -> None:
    settings.UNCONFIRMED_MAILS = 0
    add_user(acme, "alan")
    with tenant_context(acme):
        assert User.objects.get().is_confirmed
    send(acme, "alan@acme.example")
    run_jobs()
    assert statuses(acme) == ["sent"]
