"""A session beside the one under test. It names the schema of every table, so no search path can mislead it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from devstack.processes import wait_until
from tenants.connection import connection

Groups = dict[str, list[str]]


class Observer:
    """What is committed, and which sessions there are."""

    def __init__(self) -> None:
        self.session = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)

    def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = self.session.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description is not None else []

    def groups(self) -> Groups:
        """The names in every schema's auth_group; schemas without one are left out."""
        return groups_by_schema(self.execute)

    def add_group(self, schema: str, name: str) -> None:
        self.execute(f'INSERT INTO "{schema}".auth_group (name) VALUES (%s)', name)

    def forget_groups(self) -> None:
        for schema in self.groups():
            self.execute(f'DELETE FROM "{schema}".auth_group')

    def jobs(self) -> list[tuple[str, str]]:
        """The schema and the arguments of each job."""
        return self.execute(
            """
            SELECT coalesce(tenant.schema_name, 'public'), job.args
            FROM public.jobs_job job LEFT JOIN public.tenants_tenant tenant ON tenant.id = job.tenant_id
            ORDER BY job.seq
            """
        )

    def sessions(self) -> set[int]:
        """The backends of all clients of this database, but this one's."""
        found = self.execute(
            """
            SELECT pid FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
            """
        )
        return {pid for (pid,) in found}

    def terminate(self, pid: int) -> None:
        self.execute("SELECT pg_terminate_backend(%s)", pid)
        wait_until(lambda: pid not in self.sessions(), seconds=30, what="the end of a session")


@contextmanager
def observing() -> Iterator[Observer]:
    observer = Observer()
    with observer.session:
        yield observer


def groups_in_session() -> Groups:
    """What the session under test sees, inside its open transaction."""
    cursor = psycopg.ClientCursor(connection.connection)

    def execute(statement: str) -> list[tuple[Any, ...]]:
        return cursor.execute(statement.encode()).fetchall()

    return groups_by_schema(execute)


def groups_by_schema(execute: Callable[[str], list[tuple[Any, ...]]]) -> Groups:
    schemas = execute(
        "SELECT schemaname FROM pg_catalog.pg_tables WHERE tablename = 'auth_group' AND schemaname !~ '^pg_temp'"
    )
    tables = [f"SELECT '{schema}', name FROM \"{schema}\".auth_group" for (schema,) in schemas]
    groups: Groups = {}
    for schema, name in execute(f"{' UNION ALL '.join(tables)} ORDER BY 2"):
        groups.setdefault(schema, []).append(name)
    return groups
