"""A database of the embedded PostgreSQL, as the measuring process sees it."""

import time
from collections.abc import Sequence
from typing import Any, Self

import psycopg
from psycopg import sql

from devstack.postgres import ROLE, Postgres

# Seconds after which an idle session has told of its I/O
SILENCE = 11


class Database:
    """For a `with` block. Nobody else may be connected while it is copied."""

    def __init__(self, postgres: Postgres, name: str) -> None:
        self.postgres = postgres
        self.name = name
        self.url = postgres.url(name)
        self._connection: psycopg.Connection | None = None

    @classmethod
    def create(cls, postgres: Postgres, name: str, *, template: str = "template0") -> Self:
        with psycopg.connect(postgres.superuser_url(), autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(drop)
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy")
            connection.execute(create.format(*map(sql.Identifier, (name, template, ROLE))))
        return cls(postgres, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def sql(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Several statements, too, as long as they have no parameters."""
        if self._connection is None:
            self._connection = psycopg.connect(self.url, autocommit=True)
        cursor = self._connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description is not None else []

    def count(self) -> int:
        """How many bodies have run since the last reset."""
        [(count,)] = self.sql("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.work_count")
        return int(count)

    def reset_count(self) -> None:
        self.sql("SELECT setval('public.work_count', 1, false)")

    def size(self, table: str) -> int:
        """Bytes, with its indexes."""
        [(size,)] = self.sql("SELECT pg_total_relation_size(%s)", [table])
        return int(size)

    def wal(self) -> int:
        """Bytes that the whole server has written to its log."""
        [(written,)] = self.sql("SELECT pg_current_wal_insert_lsn() - '0/0'")
        return int(written)

    def flushes(self) -> int:
        """How often the whole server has flushed its log to disk. It takes a while, until each session has told."""
        time.sleep(SILENCE)
        [(flushes,)] = self.sql("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'")
        return int(flushes)

    def empty(self, *tables: str) -> None:
        """These tables, in every schema that has them.

        In tenants' not by TRUNCATE: sessions would have to learn of each table anew.
        """
        found = self.sql(
            """
            SELECT format(CASE schemaname WHEN 'public' THEN 'TRUNCATE %%I.%%I' ELSE 'DELETE FROM %%I.%%I' END,
                          schemaname, tablename)
            FROM pg_tables WHERE tablename = ANY(%s)
            """,
            [list(tables)],
        )
        if found:
            self.sql("; ".join(statement for (statement,) in found))
