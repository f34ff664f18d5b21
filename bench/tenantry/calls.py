"""What only Tenantry's driver does, and what all do."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from celery.app import app_or_default
from django.db import transaction
from django.test import override_settings
from knox.models import AuthToken

from accounts.models import User
from bench.tenantry.costs import let_pass, statement_costs  # noqa: F401
from bench.work.calls import *  # noqa: F403
from bench.work.calls import at
from bench.work.tasks import count
from jobs.relay.listener import Listener
from jobs.relay.process import Relay
from jobs.relay.publisher import Publisher
from tenants import spares
from tenants.binding import bind_to_public
from tenants.connection import connection
from tenants.services import create_schema, register_tenant

# The driver's process is the platform's.
bind_to_public()


def add_tenant(slug: str) -> str:
    """The normal way, but that it stays closed; its schema's name."""
    with transaction.atomic():
        tenant = register_tenant(name=slug, slug=slug)
    create_schema(tenant)
    return str(tenant.schema_name)


def log_in(homes: Sequence[str]) -> dict[str, str]:
    """A new user in each schema (here: in `public` alone, where there are no tenants); their tokens."""
    tokens = {}
    for home in homes:
        with at(home):
            _, tokens[home] = AuthToken.objects.create(
                User.objects.create(email=f"ada@{home}.example", full_name="Ada")
            )
    return tokens


def publish_all() -> int:
    """All that is due, however much that is for the broker."""
    app: Any = app_or_default()
    return Relay(Publisher(app, app.send_job)).drain()


def play_relay(is_busy: bool) -> None:
    """Until the driver ends, dispatches see a relay that is busy, as under load, or one that they have to notify."""
    is_told = threading.Event()

    def play() -> None:
        bind_to_public()
        with connection.direct():
            connection.ensure_connection()
            Listener().tell(is_busy=is_busy)
            is_told.set()
            threading.Event().wait()

    threading.Thread(target=play, daemon=True).start()
    is_told.wait()


def fan_out() -> float:
    """One schedule to all tenants, until all are in the outbox."""
    began = time.perf_counter()
    with transaction.atomic():
        count.for_each_tenant_on_commit()
    return time.perf_counter() - began


def fill_spares(count: int) -> None:
    with override_settings(SPARE_SCHEMAS=count):
        spares.fill_spares()


def take_spare(slug: str) -> float:
    """What a schema costs a sign-up with a spare at hand: to take it, and the job's look at whether it is complete."""
    with transaction.atomic():
        tenant = register_tenant(name=slug, slug=slug)
        began = time.perf_counter()
        if not spares.take_spare(tenant):
            raise RuntimeError("No spare was at hand.")
    create_schema(tenant)
    return time.perf_counter() - began


def create_and_migrate(slug: str) -> float:
    """As django-tenants does."""
    with transaction.atomic():
        tenant = register_tenant(name=slug, slug=slug)
    began = time.perf_counter()
    tenant.create_schema(verbosity=0)
    return time.perf_counter() - began
