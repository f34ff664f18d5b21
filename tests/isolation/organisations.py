"""Acme and globex: alike, each with people of every role, and with things that belong to them."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django_tenants.utils import tenant_context
from knox.models import AuthToken
from rest_framework.test import APIClient

from accounts.links import send_link
from accounts.models import Link, User
from notifications.models import Message
from notifications.placeholders import PLACEHOLDER, fill_in
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.durables import atomic, bodies
from tests.people import add_user

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: How a request names its tenant
WAYS = ("host", "header")
_numbers = itertools.count()


@dataclass
class Organisation:
    """A tenant, one of whose members, `peer`, is somebody else to each client."""

    tenant: Tenant
    peer: User
    run_jobs: Callable[..., int]

    def add(self, role: str, **fields: Any) -> User:
        """One more user of this role."""
        return add_user(self.tenant, f"{role}{next(_numbers)}", role, **fields)

    def token_of(self, user: User, **fields: Any) -> str:
        """The secret of a new token, which has these fields."""
        with tenant_context(self.tenant):
            token, secret = AuthToken.objects.create(user=user)
            if fields:
                AuthToken.objects.filter(pk=token.pk).update(**fields)
        return str(secret)

    def client(self, secret: str | None, way: str = "host") -> APIClient:
        """A client of the organisation with this token."""
        slug = self.tenant.slug
        headers = {"host": f"{slug}.localhost"} if way == "host" else {"host": "localhost", "tenant": slug}
        return APIClient(headers=headers if secret is None else {**headers, "authorization": f"Bearer {secret}"})

    def client_of(self, user: User, way: str = "host") -> APIClient:
        """A client that is logged in."""
        return self.client(self.token_of(user), way)

    def contents(self) -> str:
        """All rows of the tenant's schema, and those of `public` that are about it."""
        with connection.cursor() as cursor:
            schema, key = self.tenant.schema_name, self.tenant.pk
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", [schema])
            tables = [f'"{schema}"."{name}" t' for (name,) in cursor.fetchall()]
            tables += [f"public.{name} t WHERE tenant_id = '{key}'" for name in ("jobs_job", "tenants_domain")]
            tables += [f"public.tenants_tenant t WHERE id = '{key}'"]
            cursor.execute(" UNION ALL ".join(f"SELECT t::text FROM {table}" for table in tables))
            return "\n".join(sorted(row for (row,) in cursor.fetchall()))

    def marks(self) -> set[str]:
        """What no other tenant may be shown: its name, and the ids of all that it has."""
        return {self.tenant.slug, *UUID.findall(self.contents())}


# What belongs to a user of an organisation: each call makes a new one, and returns what a path calls it.


def slug(of: Organisation, owner: User) -> str:
    return of.tenant.slug


def user(of: Organisation, owner: User) -> str:
    return str(owner.pk)


def unconfirmed(of: Organisation, owner: User) -> str:
    """Who has some use for a link."""
    with tenant_context(of.tenant):
        User.objects.filter(pk=owner.pk).update(is_confirmed=False)
    return str(owner.pk)


def link(of: Organisation, purpose: Link.Purpose) -> str:
    """A link that was mailed to a new user."""
    person = of.add("member", is_confirmed=False)
    with tenant_context(of.tenant), transaction.atomic():
        send_link(person, purpose=purpose)
        sent = Link.objects.get(user=person, purpose=purpose)
    return f"{sent.pk.hex}{fill_in(PLACEHOLDER, sent.secret_name)}"


def message(of: Organisation, owner: User) -> str:
    with tenant_context(of.tenant):
        return str(Message.objects.create(to=owner.email, subject=f"For {owner.full_name}").pk)


def waiting_job(of: Organisation, owner: User) -> str:
    with tenant_context(of.tenant):
        return str(atomic.apply_async_on_commit((), countdown=3600))


def dead_job(of: Organisation, owner: User) -> str:
    @bodies
    def fail(*_: object) -> None:
        raise ValueError("no such luck")

    with tenant_context(of.tenant):
        job_id = str(atomic.delay_on_commit())
    of.run_jobs()
    return job_id


LINE = {"description": "Tea", "quantity": 1, "unit_amount": 100}
ORDER = {"currency": "EUR", "payment_token": "tok_declined", "lines": [LINE]}


def order(of: Organisation, owner: User) -> str:
    """Its card was declined, so it may be paid by another, and be cancelled."""
    placed = of.client_of(owner).post("/api/v1/orders/", ORDER)
    of.run_jobs()
    return str(placed.json()["id"])


def invoice(of: Organisation, owner: User) -> str:
    return str(of.client_of(owner).get(f"/api/v1/orders/{order(of, owner)}/").json()["invoice"])


def payment(of: Organisation, owner: User) -> str:
    [one] = of.client_of(owner).get(f"/api/v1/invoices/{invoice(of, owner)}/").json()["payments"]
    return str(one["id"])
