"""The people of acme and globex."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings
from django.core import mail
from django.db import connection
from django.test import Client
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_tenants.utils import tenant_context
from knox.models import AuthToken
from rest_framework.test import APIClient

from accounts.models import User
from tenants.binding import bind_to_public
from tenants.models import Tenant

PASSWORD = "correct horse battery"
LINK = re.compile(r"\?link=([0-9a-f]{96})\b")
T = TypeVar("T")


def add_user(tenant: Tenant, name: str, role: str = "member", **fields: Any) -> User:
    full_name = f"{name.title()} of {tenant.name}"
    user = User(email=f"{name}@{tenant.slug}.example", full_name=full_name, role=role, **fields)
    user.set_password(PASSWORD)
    with tenant_context(tenant):
        user.save()
    return user


def client_of(tenant: Tenant, user: User) -> APIClient:
    """An API client that is logged in."""
    with tenant_context(tenant):
        _, secret = AuthToken.objects.create(user=user)
    host = f"{tenant.slug}.{settings.BASE_DOMAIN}"
    return APIClient(headers={"host": host, "authorization": f"Bearer {secret}"})


def add_staff(**fields: Any) -> User:
    """Sam, of the platform's staff: a superuser, unless the fields say otherwise."""
    staff: dict[str, Any] = {"email": "sam@tenantry.example", "full_name": "Sam Staff"}
    user = User(**{**staff, "is_staff": True, "is_superuser": True, **fields})
    user.set_password(PASSWORD)
    user.save()
    return user


def client_of_staff(user: User) -> Client:
    """A client of the admin that is logged in with both factors."""
    device, _ = TOTPDevice.objects.get_or_create(user=user)
    client = Client(headers={"host": settings.BASE_DOMAIN})
    client.force_login(user)
    session = client.session
    session[DEVICE_ID_SESSION_KEY] = device.persistent_id
    session.save()
    return client


def mailed_links(email: str) -> list[str]:
    """The links that were mailed to an address in this test, oldest first."""
    found = [LINK.search(str(sent.body)) for sent in mail.outbox if sent.to == [email]]
    return [link[1] for link in found if link]


def at_once(*calls: Callable[[], T]) -> list[T]:
    """What the calls return, each made in a thread of its own, in `public`, with its own connection, all at once."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        bind_to_public()
        barrier.wait()
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def await_blocked() -> None:
    """Return once another connection waits for a lock that this one holds."""
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute("SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))")
            if cursor.fetchone() is not None:
                return
            time.sleep(0.01)
    raise AssertionError("Nobody waits for what this connection holds")
