"""The main job over HTTP, for two tenants at once: sign-up, users, orders, paid invoices, receipts, each at home."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from django.db import connection
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from billing.models import Invoice, Order
from devstack.api import Api
from devstack.processes import wait_until
from jobs.models import Job
from notifications.models import Message
from tenants.models import Tenant

ORDERS = 50
OWNER = {"email": "ada@example.com", "full_name": "Ada", "password": "correct horse battery"}
SLUGS = ("acme-live", "globex-live")
LINK = re.compile(r"\?link=([0-9a-f]{96})")


def test_every_order_is_billed_once_and_at_home(product: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        tenants = dict(zip(SLUGS, pool.map(lambda slug: sign_up(product, slug), SLUGS), strict=True))
    interleaved = [slug for _ in range(ORDERS) for slug in SLUGS]
    with ThreadPoolExecutor(4) as pool:
        orders = list(pool.map(lambda slug: place_order(tenants[slug], slug), interleaved))
    ids = [order["id"] for order in orders]
    placed = {slug: {id for id, of in zip(ids, interleaved, strict=True) if of == slug} for slug in SLUGS}

    wait_until(lambda: not Job.objects.exists(), seconds=120, what="all jobs done")

    for slug, api in tenants.items():
        assert_billed(api, slug, placed[slug])
        api.close()
    assert_nothing_elsewhere()


def sign_up(port: int, slug: str) -> Api:
    with closing(Api("localhost", port, say=print)) as public:
        public.post("tenants/", {"name": slug, "slug": slug, "owner": OWNER})
        wait_until(lambda: public.get(f"tenants/{slug}/")["status"] == "active", seconds=60, what=f"{slug} active")
    api = Api(f"{slug}.localhost", port, say=print)
    api.log_in(OWNER["email"], OWNER["password"])
    wait_until(lambda: confirm(api), seconds=60, what=f"{slug} confirmed")
    return api


def confirm(api: Api) -> bool:
    """By the link in the mail, if that has come."""
    host, _, _ = api.host.partition(":")
    links = [LINK.search(mail["body"]) for mail in calls("TENANTRY_MAIL_LOG") if host in mail["body"]]
    for link in filter(None, links):
        api.post("confirmations/", {"link": link[1]})
        return True
    return False


def place_order(api: Api, slug: str) -> dict[str, Any]:
    line = {"description": f"Tea for {slug}", "quantity": 3, "unit_amount": 1234}
    order = api.post("orders/", {"currency": "EUR", "payment_token": "tok_ok", "lines": [line]})
    assert (order["total_amount"], order["status"], len(order["jobs"])) == (3702, "pending", 1)
    return order


def assert_billed(api: Api, slug: str, order_ids: set[str]) -> None:
    assert len(order_ids) == ORDERS
    schema = Tenant.objects.get(slug=slug).schema_name
    with schema_context(schema):
        orders = Order.objects.all()
        assert {str(order.pk) for order in orders} == order_ids
        assert {order.status for order in orders} == {"paid"}
        invoices = Invoice.objects.all()
        assert Counter(str(invoice.order_id) for invoice in invoices) == dict.fromkeys(order_ids, 1)
        assert {invoice.status for invoice in invoices} == {"paid"}
        numbers = {invoice.number for invoice in invoices}
        assert sorted(numbers) == [f"INV-{number:06}" for number in range(1, ORDERS + 1)]
        receipts = list(Message.objects.filter(subject__startswith="Receipt"))
        assert Counter(message.status for message in receipts) == {"sent": ORDERS}
        assert set(TaskResult.objects.values_list("status", flat=True)) == {"SUCCESS"}
        job_ids = {job for order in orders for job in api.get(f"orders/{order.pk}/")["jobs"]}
        assert job_ids <= set(TaskResult.objects.values_list("task_id", flat=True))

    charges = [call for call in calls("TENANTRY_CARD_LOG") if call["tenant"] == slug]
    assert {call["outcome"] for call in charges} == {"charged"}
    assert Counter(call["reference"] for call in charges) == dict.fromkeys(numbers, 1)
    assert len({call["key"] for call in charges}) == ORDERS

    mailed = Counter(mail["message_id"] for mail in calls("TENANTRY_MAIL_LOG"))
    assert all(mailed[message.message_id] == 1 for message in receipts)


def assert_nothing_elsewhere() -> None:
    # Those that make spare schemas may be under way still.
    of_sign_ups = TaskResult.objects.exclude(task_name="tenants.tasks.fill_spares")
    assert Counter(of_sign_ups.values_list("task_name", "status")) == {
        ("accounts.tasks.provision_tenant", "SUCCESS"): len(SLUGS)
    }
    for slug in ("acme", "globex"):
        with schema_context(Tenant.objects.get(slug=slug).schema_name):
            counts = [model.objects.count() for model in (Order, Invoice, Message, TaskResult)]
            assert counts == [0, 0, 0, 0], (slug, counts)
    assert "billing_order" not in connection.introspection.table_names()


def calls(variable: str) -> Iterable[dict[str, Any]]:
    with Path(os.environ[variable]).open() as log:
        return [json.loads(line) for line in log]
