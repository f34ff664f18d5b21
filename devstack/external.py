"""Servers that DATABASE_URL and REDIS_URL name: checked with one clear line, used without a trace left behind."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from devstack import DevstackError

OLDEST_POSTGRESQL = 15
TIMEOUT_SECONDS = 5


def check_database(url: str) -> None:
    if urlsplit(url).scheme not in {"postgres", "postgresql"}:
        raise DevstackError("DATABASE_URL must look like postgres://user:password@host:5432/name")
    with _database(url) as connection:
        version = connection.info.server_version // 10000
    if version < OLDEST_POSTGRESQL:
        raise DevstackError(
            f"DATABASE_URL: PostgreSQL {version} is too old, {OLDEST_POSTGRESQL} is the oldest supported"
        )


def check_redis(url: str) -> None:
    with _redis(url) as client:
        client.ping()


@contextmanager
def fresh_database(url: str, *, superuser_url: str | None = None, template: str = "template1") -> Iterator[str]:
    """The URL of a new database on that server, a copy of `template`, that belongs to the role of `url`.

    That role makes it, and needs CREATEDB, if there is no `superuser_url`. Dropped at the end, with every database
    whose name begins with its name.
    """
    name = f"tenantry_test_{secrets.token_hex(6)}"
    with _database(url) as connection:
        owner = connection.info.user
    with _database(superuser_url or url) as connection:
        create_database(connection, name, template=template, owner=owner)
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        with _database(superuser_url or url) as connection:
            names = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [name])
            for (found,) in names.fetchall():
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(found)))


def create_database(connection: psycopg.Connection, name: str, *, template: str, owner: str) -> None:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}")
    connection.execute(create.format(*map(sql.Identifier, (name, template, owner))))


@contextmanager
def fresh_prefix(url: str) -> Iterator[str]:
    """A prefix that no key on that server has; keys that begin with it are deleted at the end."""
    prefix = f"tenantry-test-{secrets.token_hex(6)}:"
    try:
        yield prefix
    finally:
        with _redis(url) as client:
            for key in client.scan_iter(match=f"{prefix}*", count=1000):
                client.unlink(key)


@contextmanager
def _database(url: str) -> Iterator[psycopg.Connection]:
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=TIMEOUT_SECONDS) as connection:
            yield connection
    except psycopg.Error as error:
        raise DevstackError(f"DATABASE_URL: {_one_line(error)}") from None


@contextmanager
def _redis(url: str) -> Iterator[redis.Redis]:
    try:
        with redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0)
        ) as client:
            yield client
    except (redis.RedisError, ValueError) as error:
        raise DevstackError(f"REDIS_URL: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
