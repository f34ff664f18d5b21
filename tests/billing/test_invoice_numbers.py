"""Gapless under concurrency: real threads, real commits, some of them rolled back."""

import random

import pytest
from django.db import transaction
from django_tenants.utils import tenant_context

from billing import tasks
from billing.models import Invoice
from tenants.models import Tenant
from tests.billing.conftest import place_order
from tests.people import add_user, at_once

ORDERS, THREADS = 12, 4


def bill(tenant: Tenant, order_id: str, *, rollback: bool = False) -> None:
    with tenant_context(tenant), transaction.atomic():
        tasks.bill_order(order_id)
        transaction.set_rollback(rollback)


@pytest.mark.usefixtures("committed_db")
def test_numbers_have_no_gaps_although_orders_are_billed_at_once_and_some_roll_back(acme: Tenant) -> None:
    user = add_user(acme, "ada")
    orders = [str(place_order(acme, user).pk) for _ in range(ORDERS)]

    def bill_shuffled() -> None:
        for order_id in random.sample(orders, ORDERS):
            bill(acme, order_id, rollback=True)
            bill(acme, order_id)

    at_once(*[bill_shuffled] * THREADS)
    with tenant_context(acme):
        numbers = sorted(Invoice.objects.values_list("number", flat=True))
    assert numbers == [f"INV-{n:06}" for n in range(1, ORDERS + 1)]


@pytest.mark.usefixtures("committed_db")
def test_each_tenant_counts_for_itself(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        order = place_order(tenant, add_user(tenant, "ada"))
        with tenant_context(tenant), transaction.atomic():
            assert tasks.bill_order(str(order.pk)) == {"invoice": "INV-000001"}
