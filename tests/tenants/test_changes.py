"""`updated_at` and `synced_until()`: a reader who asks for what changed since misses nothing that commits late."""

import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.db import transaction
from django_tenants.utils import tenant_context
from psycopg import IsolationLevel
from rest_framework.test import APIClient

from config import api
from notifications.models import Message
from tenants.changes import synced_until
from tenants.checks import check_writers_are_seen
from tenants.ids import new_id
from tenants.models import Tenant
from tests.people import add_user, client_of

pytestmark = pytest.mark.usefixtures("committed_db")

SUPERUSER_URL = os.environ.get("DATABASE_SUPERUSER_URL", "")
needs_superuser = pytest.mark.skipif(not SUPERUSER_URL, reason="needs DATABASE_SUPERUSER_URL")
WRITERS, CHANGES = 8, 1000
URL = "/api/v1/messages/"
COLUMNS = '(id, "to", subject, text, html, status, attempts, error, created_at)'
INSERT = f"""
    INSERT INTO "{{schema}}".notifications_message {COLUMNS}
    VALUES (gen_random_uuid(), '', 'written', '', '', 'queued', 0, '', now())
"""
UPSERT = f"""
    INSERT INTO notifications_message {COLUMNS} VALUES (%s, '', %s, '', '', 'queued', 0, '', now())
    ON CONFLICT (id) DO UPDATE SET subject = excluded.subject
"""
TRIGGERED = """
    SELECT relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE tgfoid = 'public.tenants_set_updated_at'::regproc AND relnamespace = %s::regnamespace
"""


@contextmanager
def session(url: str = "") -> Iterator[psycopg.Connection]:
    """Somebody else's."""
    with psycopg.connect(url or os.environ["DATABASE_URL"]) as other:
        yield other
        other.rollback()


def here(url: str) -> str:
    """The URL, in the database of this test."""
    return urlunsplit(urlsplit(url)._replace(path=urlsplit(os.environ["DATABASE_URL"]).path))


def began_at(other: psycopg.Connection) -> datetime:
    """When its transaction began, which begins now if there is none."""
    [(time,)] = other.execute("SELECT now()").fetchall()
    began: datetime = time
    return began.astimezone(UTC)


def until() -> datetime:
    found = synced_until()
    assert found is not None
    return found


@contextmanager
def other_role() -> Iterator[tuple[str, Callable[[str], Any]]]:
    """A role that can log in and has no right; and what a superuser does with it."""
    name = f"tenantry_test_{secrets.token_hex(6)}"
    with psycopg.connect(here(SUPERUSER_URL), autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {name} LOGIN")
        yield name, superuser.execute
        superuser.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@contextmanager
def granted(role: str) -> Iterator[None]:
    """To the role of DATABASE_URL."""
    ours = urlsplit(os.environ["DATABASE_URL"]).username
    with psycopg.connect(SUPERUSER_URL, autocommit=True) as superuser:
        superuser.execute(f"GRANT {role} TO {ours}")
        yield
        superuser.execute(f"REVOKE {role} FROM {ours}")


# What a client does


@pytest.fixture
def client(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada", "owner"))


def test_a_client_in_step_misses_nothing_that_commits_late(acme: Tenant, client: APIClient) -> None:
    """Writers begin long before they write, and commit in any order, while a client asks what changed since."""
    changes = {str(new_id()): f"change {number}" for number in range(CHANGES)}
    with tenant_context(acme):
        Message.objects.bulk_create(Message(id=id, subject="as it was") for id in [*changes][::2])
    shares = [[*changes.items()][writer::WRITERS] for writer in range(WRITERS)]

    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, acme.schema_name, share, seed) for seed, share in enumerate(shares)]
        seen = follow(client, until=lambda: all(writer.done() for writer in writers))
    for writer in writers:
        writer.result()
    assert {id: subject for id, subject in changes.items() if seen.get(id) != subject} == {}


def write(schema: str, share: list[tuple[str, str]], seed: int) -> None:
    """Insert or change messages, a few in each transaction, which waits before it writes and before it commits."""
    pause = random.Random(seed).random
    with session() as writer:
        while share:
            few, share = share[:4], share[4:]
            writer.execute(f'SET LOCAL search_path = "{schema}"')
            time.sleep(pause() / 50)
            for change in few:
                writer.execute(UPSERT, change)
            time.sleep(pause() / 50)
            writer.commit()


def follow(client: APIClient, *, until: Callable[[], bool]) -> dict[str, str]:
    """What a client in step has in the end: the subjects of messages, by their ids."""
    seen: dict[str, str] = {}
    since = ""
    is_last = False
    while not is_last:
        is_last = until()
        pages = list(pages_of(client, f"{URL}?ordering=updated_at&page_size=200{since}"))
        seen |= {message["id"]: message["subject"] for page in pages for message in page["results"]}
        since = f"&updated_after={pages[-1]['synced_until']}"
    return seen


def pages_of(client: APIClient, url: str | None) -> Iterator[dict[str, Any]]:
    while url:
        page = client.get(url).json()
        yield page
        url = page["next"]


def test_pages_that_follow_from_one_answer_what_the_first_did(acme: Tenant, client: APIClient) -> None:
    """A change meanwhile, on a page that was turned, is later than what they answer."""
    with tenant_context(acme):
        messages = Message.objects.bulk_create(Message(subject=f"{number}") for number in range(3))
        pages = pages_of(client, f"{URL}?page_size=1")
        first = next(pages)
        Message.objects.filter(pk=messages[2].pk).update(subject="changed")
    others = list(pages)
    assert {page["synced_until"] for page in others} == {first["synced_until"]}
    back = client.get(others[-1]["previous"]).json()
    assert back["synced_until"] == first["synced_until"]
    [changed] = client.get(f"{URL}?updated_after={first['synced_until']}").json()["results"]
    assert changed["subject"] == "changed"


# What the database says


def test_a_transaction_that_writes_holds_it_back(acme: Tenant) -> None:
    with session() as writer:
        began = began_at(writer)
        assert until() > began  # it has only read
        writer.execute(INSERT.format(schema=acme.schema_name))
        [(changed,)] = writer.execute(f'SELECT updated_at FROM "{acme.schema_name}".notifications_message').fetchall()
        assert until() == began < changed
        writer.commit()
    assert until() > changed


def test_a_savepoint_holds_it_back_too(acme: Tenant) -> None:
    with session() as writer:
        began = began_at(writer)
        with writer.transaction():
            writer.execute(INSERT.format(schema=acme.schema_name))
            assert until() == began
        assert until() == began


def test_a_backup_does_not(acme: Tenant) -> None:
    """pg_dump reads all that it dumps in one transaction, and writes nothing."""
    with session() as backup:
        backup.isolation_level = IsolationLevel.REPEATABLE_READ
        began = began_at(backup)
        backup.execute(f'LOCK TABLE "{acme.schema_name}".notifications_message IN ACCESS SHARE MODE')
        backup.execute(f'SELECT FROM "{acme.schema_name}".notifications_message')
        assert until() > began


def test_neither_does_a_writer_in_another_database() -> None:
    with session(urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path="/postgres"))) as writer:
        began = began_at(writer)
        writer.execute("SELECT pg_current_xact_id()")
        assert until() > began


def test_its_own_transaction_does_not(acme: Tenant) -> None:
    with transaction.atomic(), tenant_context(acme):
        message = Message.objects.create(subject="mine")
        assert until() <= message.updated_at


@needs_superuser
def test_a_writer_whose_beginning_is_hidden(acme: Tenant, client: APIClient) -> None:
    """Of a superuser, say. A client is told to ask again from where it was."""
    since = client.get(URL).json()["synced_until"]
    with session(here(SUPERUSER_URL)) as writer:
        writer.execute(INSERT.format(schema=acme.schema_name))
        assert synced_until() is None
        page = client.get(f"{URL}?updated_after={since}").json()
        assert (page["results"], page["synced_until"]) == ([], since)
        assert client.get(URL).json()["synced_until"] == "1970-01-01T00:00:00Z"
        writer.commit()
    page = client.get(f"{URL}?updated_after={since}").json()
    assert [message["subject"] for message in page["results"]] == ["written"]
    assert page["synced_until"] > since


@needs_superuser
def test_whoever_reads_all_statistics_sees_it(acme: Tenant) -> None:
    with session(here(SUPERUSER_URL)) as writer, granted("pg_read_all_stats"):
        began = began_at(writer)
        writer.execute(INSERT.format(schema=acme.schema_name))
        assert until() == began


# What keeps it so


def test_each_table_of_such_a_list_has_the_trigger(acme: Tenant) -> None:
    views: list[Any] = [view for _, view, _ in api.tenant.registry]
    tables = {view.queryset.model._meta.db_table for view in views if view.pagination_class.has_changes}
    assert len(tables) >= 2
    with session() as other:
        triggered = {name for (name,) in other.execute(TRIGGERED, [f'"{acme.schema_name}"']).fetchall()}
    assert tables - triggered == set()


def test_every_write_sets_it_and_nobody_else_does(acme: Tenant) -> None:
    with tenant_context(acme):
        message = Message.objects.create(subject="new", updated_at=datetime(2000, 1, 1, tzinfo=UTC))
        created = Message.objects.get(pk=message.pk).updated_at
        assert created > message.created_at
        message.save()
        saved = Message.objects.get(pk=message.pk).updated_at
        Message.objects.update(updated_at=datetime(2000, 1, 1, tzinfo=UTC))
        assert created < saved < Message.objects.get(pk=message.pk).updated_at


@needs_superuser
def test_a_role_that_may_write_unseen_is_warned_of(acme: Tenant) -> None:
    """Its name is in the warning, which goes when it is seen, or may write no more."""
    assert check_writers_are_seen(["default"]) == []
    with other_role() as (name, grant):
        assert check_writers_are_seen(["default"]) == []
        grant(f'GRANT UPDATE ON "{acme.schema_name}".notifications_message TO {name}')
        [warning] = check_writers_are_seen(["default"])
        assert (warning.id, name in warning.msg, "pg_read_all_stats" in str(warning.hint)) == (
            "tenants.W001",
            True,
            True,
        )
        with granted("pg_read_all_stats"):
            assert check_writers_are_seen(["default"]) == []
