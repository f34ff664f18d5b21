"""Room for the locks of a backup, on a server that has little."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from devstack import CHECKOUT, folders
from devstack.postgres import Postgres
from devstack.processes import postgresql_programs
from tenants.checks import check_room_for_locks
from tenants.locks import LockTable

pytestmark = pytest.mark.skipif(not postgresql_programs(), reason="needs the embedded PostgreSQL")

TABLES = 8000
# Each batch is a transaction of its own: more would have no room, either.
MAKE_TABLES = f"""
DO $$
BEGIN
    CREATE SCHEMA acme;
    FOR number IN 1..{TABLES} LOOP
        EXECUTE format('CREATE TABLE acme.t%s ()', number);
        IF number % 100 = 0 THEN
            COMMIT;
        END IF;
    END LOOP;
END
$$
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """It has room for 2,000 locks, and for 3,000 more in memory that happens to be free."""
    with folders.temporary() as folder:
        postgres = Postgres(folder / "postgres", password="secret", durable=False).start()
        try:
            set_locks(postgres, 10)
            with psycopg.connect(postgres.url(), autocommit=True) as session:
                session.execute(MAKE_TABLES)
            yield postgres
        finally:
            postgres.stop()


def set_locks(postgres: Postgres, number: int) -> None:
    postgres.execute(f"ALTER SYSTEM SET max_locks_per_transaction = {number}")
    postgres.restart()


def back_up(postgres: Postgres) -> subprocess.CompletedProcess[str]:
    program = str(postgres.programs / "pg_dump")
    return subprocess.run([program, "--schema-only", postgres.url()], capture_output=True, text=True)


def check(postgres: Postgres) -> str:
    """As the release step does."""
    argv = [sys.executable, "manage.py", "check", "--database", "default"]
    env = {**os.environ, "DATABASE_URL": postgres.url()}
    done = subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True)
    assert done.returncode == 0
    return done.stdout + done.stderr


def test_the_check_warns_where_a_backup_fails_and_names_what_is_enough(server: Postgres) -> None:
    failed = back_up(server)
    assert failed.returncode != 0
    assert "out of shared memory" in failed.stderr
    output = check(server)
    assert "tenants.W002" in output

    [number] = re.findall(r"Set max_locks_per_transaction to (\d+)", output)
    set_locks(server, int(number))

    assert back_up(server).returncode == 0
    assert "tenants.W002" not in check(server)


def test_little_is_enough_for_few_tenants() -> None:
    assert LockTable(relations=3200, locks_per_transaction=64, transactions=100).needed_per_transaction == 64
    assert LockTable(relations=3201, locks_per_transaction=64, transactions=100).needed_per_transaction == 65
    assert LockTable(relations=0, locks_per_transaction=64, transactions=100).needed_per_transaction == 0


@pytest.mark.django_db
def test_only_who_asks_for_the_database_is_told() -> None:
    assert check_room_for_locks() == []
    assert check_room_for_locks(["other"]) == []
    assert check_room_for_locks(["default"]) == []
