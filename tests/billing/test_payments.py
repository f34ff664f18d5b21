"""A payment that failed is no dead end: another card is tried, or the order is cancelled, and never both."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from celery.exceptions import Ignore
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_tenants.utils import tenant_context
from pytest_django import Settings
from rest_framework.exceptions import APIException
from rest_framework.test import APIClient

from accounts.models import User
from billing import charging, services, tasks
from billing.gateways import Charge
from billing.models import Invoice, Order, Payment
from devstack import cards
from idempotency.models import KeptResponse
from jobs import endings
from jobs.models import Job
from notifications.models import Message
from tenants.ids import new_id
from tenants.models import Tenant
from tests.billing.conftest import place_order
from tests.people import add_user, at_once, await_blocked, client_of

RunJobs = Callable[..., int]
OTHER_CARD = {"payment_token": "tok_ok"}


@pytest.fixture
def ada(acme: Tenant) -> User:
    return add_user(acme, "ada")


@pytest.fixture
def api(acme: Tenant, ada: User) -> APIClient:
    return client_of(acme, ada)


@pytest.fixture
def declined(acme: Tenant, ada: User, card_sink: cards.Ledger, run_jobs: RunJobs) -> Order:
    order = place_order(acme, ada, token="tok_declined")
    run_jobs()
    mail.outbox.clear()
    return order


def pay(api: APIClient, order: Order, **headers: str) -> Any:
    return api.post(f"/api/v1/orders/{order.pk}/payments/", OTHER_CARD, headers=headers)


def cancel(api: APIClient, order: Order) -> Any:
    return api.post(f"/api/v1/orders/{order.pk}/cancellation/")


def answers(api: APIClient, order: Order) -> list[str]:
    """The codes of what a payment and a cancellation are refused with."""
    refused = [pay(api, order), cancel(api, order)]
    assert [answer.status_code for answer in refused] == [409, 409]
    return [answer.json()["code"] for answer in refused]


def shown(api: APIClient, order: Order) -> tuple[str, str, list[tuple[str, str]]]:
    """The order's status, its invoice's, and each of its payments with its reason."""
    body = api.get(f"/api/v1/orders/{order.pk}/").json()
    invoice = api.get(f"/api/v1/invoices/{body['invoice']}/").json()
    payments = [(payment["status"], payment["reason"]) for payment in invoice["payments"]]
    return body["status"], invoice["status"], payments


# Another card


def test_another_card_pays_the_order(
    declined: Order, api: APIClient, card_sink: cards.Ledger, run_jobs: RunJobs
) -> None:
    assert shown(api, declined) == ("payment_failed", "payment_failed", [("declined", "card_declined")])

    answer = pay(api, declined)

    assert answer.status_code == 201
    payment = answer.json()
    assert (payment["status"], payment["amount"], payment["order"]) == ("pending", 2500, str(declined.pk))
    assert api.get(answer.headers["Location"]).json() == payment
    assert api.get(f"/api/v1/jobs/{payment['job']}/").json()["state"] == "pending"
    assert shown(api, declined)[:2] == ("pending", "open")
    run_jobs()
    assert shown(api, declined) == ("paid", "paid", [("declined", "card_declined"), ("succeeded", "")])
    assert [call["outcome"] for call in card_sink.calls(None)] == ["declined", "charged"]
    assert card_sink.calls(payment["id"])[0]["outcome"] == "charged"
    [receipt] = mail.outbox
    assert receipt.subject == "Receipt for invoice INV-000001"
    assert len(api.get(f"/api/v1/orders/{declined.pk}/").json()["jobs"]) == 5


def test_another_card_may_be_declined_too_and_the_next_one_tried(
    declined: Order, api: APIClient, run_jobs: RunJobs
) -> None:
    api.post(f"/api/v1/orders/{declined.pk}/payments/", {"payment_token": "tok_declined"})
    run_jobs()
    assert shown(api, declined)[0] == "payment_failed"
    assert len(mail.outbox) == 1
    assert pay(api, declined).status_code == 201
    run_jobs()
    assert [status for status, _ in shown(api, declined)[2]] == ["declined", "declined", "succeeded"]


def test_the_mail_of_a_failure_names_the_ways_on(acme: Tenant, declined: Order) -> None:
    with tenant_context(acme):
        message = Message.objects.get()
    for form in (message.text, message.html):
        assert "was declined: card_declined" in form
        assert f"POST acme.localhost/api/v1/orders/{declined.pk}/payments/" in form
        assert f"POST acme.localhost/api/v1/orders/{declined.pk}/cancellation/" in form


def test_a_payment_that_is_sent_again_with_its_key_is_one(declined: Order, api: APIClient, acme: Tenant) -> None:
    first, second = (pay(api, declined, **{"idempotency-key": "another card"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Idempotent-Replayed"] == "true"
    with tenant_context(acme):
        assert Payment.objects.count() == 2


def test_without_a_key_the_second_finds_the_first_under_way(declined: Order, api: APIClient) -> None:
    assert pay(api, declined).status_code == 201
    assert answers(api, declined) == ["payment_in_progress"] * 2


def test_the_token_is_in_no_answer_no_job_and_nothing_that_is_kept(
    declined: Order, api: APIClient, acme: Tenant, run_jobs: RunJobs
) -> None:
    key = {"idempotency-key": "another card"}
    url = f"/api/v1/orders/{declined.pk}/payments/"
    answer = api.post(url, {"payment_token": "tok_secret"}, headers=key)
    assert b"tok_secret" not in answer.content
    assert not Job.objects.filter(args__contains="tok_secret").exists()
    with tenant_context(acme):
        assert "tok_secret" not in str(vars(KeptResponse.objects.get()))
        run_jobs()
        assert Order.objects.get().payment_token == ""


@pytest.mark.parametrize("body", [{}, {"payment_token": ""}, {"payment_token": "x" * 201}, {"payment_token": "a\0"}])
def test_what_is_no_card_is_refused(declined: Order, api: APIClient, body: dict[str, str]) -> None:
    answer = api.post(f"/api/v1/orders/{declined.pk}/payments/", body)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/payment_token"]


# An end


def test_an_order_that_failed_is_cancelled_and_stays_so(declined: Order, api: APIClient, run_jobs: RunJobs) -> None:
    answer = cancel(api, declined)
    assert answer.status_code == 200
    assert answer.json() == api.get(f"/api/v1/orders/{declined.pk}/").json()
    assert shown(api, declined)[:2] == ("cancelled", "cancelled")
    assert cancel(api, declined).json() == answer.json()
    refused = pay(api, declined)
    assert (refused.status_code, refused.json()["code"]) == (409, "order_cancelled")


def test_an_order_that_is_not_billed_yet_is_cancelled_and_never_billed(
    acme: Tenant, ada: User, api: APIClient, card_sink: cards.Ledger, run_jobs: RunJobs
) -> None:
    order = place_order(acme, ada)
    assert pay(api, order).json()["code"] == "payment_in_progress"
    assert cancel(api, order).json()["status"] == "cancelled"
    run_jobs()
    with tenant_context(acme):
        assert not Invoice.objects.exists()
        assert Order.objects.get().payment_token == ""
    assert api.get(f"/api/v1/jobs/{order.jobs[0]}/").json()["state"] == "ignored"
    assert api.get(f"/api/v1/orders/{order.pk}/").json()["invoice"] is None
    assert card_sink.calls(None) == []


def test_a_paid_order_is_neither_paid_again_nor_cancelled(
    acme: Tenant, ada: User, api: APIClient, card_sink: cards.Ledger, run_jobs: RunJobs
) -> None:
    order = place_order(acme, ada)
    run_jobs()
    assert answers(api, order) == ["order_paid"] * 2


@pytest.mark.parametrize("status", ["open", "payment_failed"])
def test_a_cancelled_order_is_not_reminded_of(acme: Tenant, declined: Order, api: APIClient, status: str) -> None:
    with tenant_context(acme):
        Invoice.objects.update(created_at=timezone.now() - timedelta(days=15), status=status)
    cancel(api, declined)
    with tenant_context(acme), transaction.atomic():
        assert tasks.remind_unpaid_invoices() == 0


# While a card is being charged


def test_while_a_charge_is_under_way_nothing_else_happens(
    acme: Tenant, ada: User, api: APIClient, card_sink: cards.Ledger, run_jobs: RunJobs, settings: Settings
) -> None:
    settings.CARD_GATEWAY_TIMEOUT = 1
    order = place_order(acme, ada, token="tok_timeout")
    run_jobs(limit=1)
    assert answers(api, order) == ["payment_in_progress"] * 2
    run_jobs(limit=1)  # charged, and nobody knows it yet
    assert answers(api, order) == ["payment_in_progress"] * 2
    Job.objects.update(token=new_id(), lease_until=timezone.now() + timedelta(minutes=1))
    assert answers(api, order) == ["payment_in_progress"] * 2
    Job.objects.update(token=None)
    run_jobs(ahead=True)
    assert answers(api, order) == ["order_paid"] * 2


def test_a_charge_whose_job_is_dead_is_asked_about_before_anything_else(
    acme: Tenant, ada: User, api: APIClient, card_sink: cards.Ledger, run_jobs: RunJobs, settings: Settings
) -> None:
    gateway, settings.CARD_GATEWAY_URL = settings.CARD_GATEWAY_URL, "http://127.0.0.1:1"
    order = place_order(acme, ada, token="tok_declined")
    while run_jobs(ahead=True):
        pass
    settings.CARD_GATEWAY_URL = gateway
    assert answers(api, order) == ["payment_unsettled"] * 2
    assert endings.replay(Job.objects.get())
    assert answers(api, order) == ["payment_in_progress"] * 2
    run_jobs()
    assert pay(api, order).status_code == 201


@pytest.mark.parametrize("end", [endings.discard, endings.cancel])
def test_a_charge_whose_job_people_gave_up_is_abandoned(
    acme: Tenant, ada: User, api: APIClient, card_sink: cards.Ledger, run_jobs: RunJobs, end: Callable[[Job], bool]
) -> None:
    order = place_order(acme, ada)
    run_jobs(limit=1)
    if end is endings.discard:
        Job.objects.update(state="dead", tag=None)
    assert end(Job.objects.get())
    assert pay(api, order).status_code == 201
    run_jobs()
    status, invoice, payments = shown(api, order)
    assert (status, invoice, [each for each, _ in payments]) == ("paid", "paid", ["abandoned", "succeeded"])
    assert "discarded" in payments[0][1]
    assert len(card_sink.calls(None)) == 1


def test_an_order_whose_charge_people_gave_up_can_be_cancelled(
    acme: Tenant, ada: User, api: APIClient, card_sink: cards.Ledger, run_jobs: RunJobs
) -> None:
    order = place_order(acme, ada)
    run_jobs(limit=1)
    assert endings.cancel(Job.objects.get())
    assert cancel(api, order).status_code == 200
    run_jobs()
    assert shown(api, order)[:2] == ("cancelled", "cancelled")
    assert card_sink.calls(None) == []


def test_a_pending_payment_that_names_no_job_is_taken_for_one_under_way(
    acme: Tenant, ada: User, api: APIClient, run_jobs: RunJobs
) -> None:
    """A worker of the release before wrote it, after the migration."""
    order = place_order(acme, ada)
    run_jobs(limit=1)
    with tenant_context(acme):
        Payment.objects.update(job=None)
    assert answers(api, order) == ["payment_in_progress"] * 2


# At once


def attempt(acme: Tenant, call: Callable[[], Any]) -> str:
    """The code that it is refused with, or ""."""
    with tenant_context(acme):
        try:
            call()
        except APIException as refusal:
            return str(refusal.get_codes())
    return ""


@pytest.mark.usefixtures("committed_db")
def test_of_payments_and_cancellations_at_once_one_wins(
    acme: Tenant, declined: Order, api: APIClient, card_sink: cards.Ledger, run_jobs: RunJobs
) -> None:
    def pay_here() -> str:
        return attempt(acme, lambda: services.retry_payment(order_id=declined.pk, payment_token="tok_ok"))

    def cancel_here() -> str:
        return attempt(acme, lambda: services.cancel_order(order_id=declined.pk))

    codes = at_once(*[pay_here] * 3, *[cancel_here] * 3)
    run_jobs()

    status, invoice, payments = shown(api, declined)
    charged = [call["outcome"] for call in card_sink.calls(None)].count("charged")
    if status == "paid":
        assert sorted(codes) == ["", *["payment_in_progress"] * 5]
        assert (invoice, len(payments), charged) == ("paid", 2, 1)
    else:
        # A repeated cancellation is no mistake.
        assert codes == [*["order_cancelled"] * 3, "", "", ""]
        assert (status, invoice, len(payments), charged) == ("cancelled", "cancelled", 1, 0)


@pytest.mark.usefixtures("committed_db")
def test_a_payment_that_meets_a_cancellation_waits_and_is_refused(acme: Tenant, declined: Order) -> None:
    def pay_here() -> str:
        return attempt(acme, lambda: services.retry_payment(order_id=declined.pk, payment_token="tok_ok"))

    assert meanwhile(acme, lambda: services.cancel_order(order_id=declined.pk), pay_here) == "order_cancelled"


@pytest.mark.usefixtures("committed_db")
def test_a_cancellation_that_meets_the_billing_waits_and_is_refused(acme: Tenant) -> None:
    order = place_order(acme, add_user(acme, "ada"))

    def cancel_here() -> str:
        return attempt(acme, lambda: services.cancel_order(order_id=order.pk))

    assert meanwhile(acme, lambda: tasks.bill_order(str(order.pk)), cancel_here) == "payment_in_progress"


@pytest.mark.usefixtures("committed_db")
def test_a_cancellation_that_meets_a_payments_success_waits_and_is_refused(acme: Tenant, run_jobs: RunJobs) -> None:
    order = place_order(acme, add_user(acme, "ada"))
    run_jobs(limit=1)

    def cancel_here() -> str:
        return attempt(acme, lambda: services.cancel_order(order_id=order.pk))

    assert meanwhile(acme, lambda: settle(Payment.objects.get()), cancel_here) == "order_paid"


@pytest.mark.usefixtures("committed_db")
def test_an_outcome_that_comes_after_the_cancellation_changes_nothing(acme: Tenant, run_jobs: RunJobs) -> None:
    """Its job was given up, and a worker that was frozen thaws."""
    order = place_order(acme, add_user(acme, "ada"))
    run_jobs(limit=1)
    assert endings.cancel(Job.objects.get())

    def settle_here() -> str:
        with tenant_context(acme), transaction.atomic():
            settle(Payment.objects.get())
        return "settled"

    assert meanwhile(acme, lambda: services.cancel_order(order_id=order.pk), settle_here) == "settled"
    with tenant_context(acme):
        assert (Order.objects.get().status, Payment.objects.get().status) == ("cancelled", "abandoned")
        assert not Message.objects.exists()


def settle(payment: Payment) -> None:
    charge = Charge(id="ch_1", succeeded=True)
    charging.settle_payment(payment_id=str(payment.pk), charge=charge)


@pytest.mark.usefixtures("committed_db")
def test_a_billing_that_meets_a_cancellation_waits_and_writes_nothing(acme: Tenant) -> None:
    order = place_order(acme, add_user(acme, "ada"))

    def bill_here() -> str:
        with tenant_context(acme), transaction.atomic(), pytest.raises(Ignore):
            tasks.bill_order(str(order.pk))
        return "ignored"

    assert meanwhile(acme, lambda: services.cancel_order(order_id=order.pk), bill_here) == "ignored"
    with tenant_context(acme):
        assert not Invoice.objects.exists()


def meanwhile(acme: Tenant, first: Callable[[], Any], second: Callable[[], str]) -> str:
    """What `second` answers that began after `first`, and before it committed."""

    def begin() -> str:
        with tenant_context(acme), transaction.atomic():
            first()
            started.set()
            await_blocked()
        return ""

    def follow() -> str:
        started.wait(10)
        return second()

    started = Event()
    return at_once(begin, follow)[1]


def test_the_database_itself_refuses_a_second_card_at_once_or_after_success(acme: Tenant, declined: Order) -> None:
    with tenant_context(acme):
        invoice = Invoice.objects.get()
        for status in ("pending", "succeeded"):
            Payment.objects.filter(status__in=["pending", "succeeded"]).delete()
            Payment.objects.create(invoice=invoice, amount=1, currency="EUR", status=status)
            with pytest.raises(IntegrityError, match="payment_one_at_a_time"), transaction.atomic():
                Payment.objects.create(invoice=invoice, amount=1, currency="EUR")


# Whose


def test_a_strangers_order_is_neither_paid_nor_cancelled(declined: Order, globex: Tenant) -> None:
    stranger = client_of(globex, add_user(globex, "eve", "owner"))
    for pk in (declined.pk, new_id(), "1"):
        assert stranger.post(f"/api/v1/orders/{pk}/payments/", OTHER_CARD).status_code == 404
        assert stranger.post(f"/api/v1/orders/{pk}/cancellation/").status_code == 404
    assert stranger.get("/api/v1/payments/").json()["results"] == []


def test_nobody_pays_or_cancels_without_a_token(
    declined: Order, acme: Tenant, client_for: Callable[[Tenant], APIClient]
) -> None:
    nobody = client_for(acme)
    assert pay(nobody, declined).status_code == 401
    assert cancel(nobody, declined).status_code == 401
    assert nobody.get("/api/v1/payments/").status_code == 401


def test_payments_are_filtered_and_read_only(declined: Order, api: APIClient) -> None:
    [payment] = api.get("/api/v1/payments/").json()["results"]

    def found(query: str) -> bool:
        return bool(api.get(f"/api/v1/payments/?{query}").json()["results"])

    assert found(f"order={declined.pk}")
    assert found(f"invoice={payment['invoice']}")
    assert found("status=declined")
    assert not found("status=succeeded")
    assert not found(f"order={new_id()}")
    assert api.get("/api/v1/payments/?order=1").status_code == 400
    assert api.post("/api/v1/payments/", OTHER_CARD).status_code == 405
    assert api.delete(f"/api/v1/payments/{payment['id']}/").status_code == 405


@pytest.mark.parametrize(
    ("status", "may"), [("pending", True), ("succeeded", True), ("declined", False), ("abandoned", True)]
)
def test_whether_a_card_may_have_been_charged(declined: Order, acme: Tenant, status: str, may: bool) -> None:
    with tenant_context(acme):
        Payment.objects.update(status=status)
        assert services.may_have_charged() is may
        Payment.objects.all().delete()
        assert not services.may_have_charged()


# Not for ever


def test_so_many_cards_may_be_tried(api: APIClient, acme: Tenant, declined: Order, run_jobs: RunJobs) -> None:
    """Each is in every answer about the order and its invoice, and each is a mail."""
    url = f"/api/v1/orders/{declined.pk}/payments/"
    for _ in range(services.MAX_PAYMENTS - 1):
        assert api.post(url, {"payment_token": "tok_declined"}).status_code == 201
        run_jobs()

    refused = api.post(url, OTHER_CARD)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_payments")
    status, invoice_status, payments = shown(api, declined)
    assert (status, len(payments)) == ("payment_failed", services.MAX_PAYMENTS)
    assert invoice_status != "paid"
    assert cancel(api, declined).status_code == 200
