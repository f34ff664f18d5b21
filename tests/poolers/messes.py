"""Tasks whose bodies leave a mess in their database session, once they have seen that nobody left one to them."""

from contextlib import suppress

from celery import shared_task
from django.contrib.auth.models import Group
from django.db import DatabaseError

from jobs.task import TenantTask
from tenants.connection import connection

MESSES = {
    "a temporary table": "CREATE TEMP TABLE IF NOT EXISTS staging AS SELECT 1",
    "a temporary table that hides a real one": "CREATE TEMP TABLE IF NOT EXISTS auth_group (id serial, name text)",
    "a limit": "SET statement_timeout = '7min'",
    "a time zone": "SET timezone = 'Asia/Tokyo'",
    "a search path": "SET search_path = public",
    "a setting of its own": "SET app.tenant = 'somebody'",
    "a role": "SET ROLE pg_database_owner",
    "an advisory lock": "SELECT pg_advisory_lock(42, pg_backend_pid())",
    "a channel": "LISTEN gossip",
    "a prepared statement": "DEALLOCATE ALL; PREPARE kept AS SELECT 1",
}
# Only outside of transactions of ours
OPEN_TRANSACTION = "an open transaction"
# What the last owner of the session may have left to this one. All of it names its schema.
LEFT = """
    SELECT 'temporary table ' || relname FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()
    UNION ALL SELECT name || ' = ' || setting FROM pg_catalog.pg_settings
        WHERE name IN ('statement_timeout', 'TimeZone', 'role') AND setting <> reset_val
    UNION ALL SELECT 'session path' FROM pg_catalog.pg_settings
        WHERE name = 'search_path' AND reset_val <> 'pg_catalog, pg_temp'
    UNION ALL SELECT 'app.tenant' WHERE pg_catalog.current_setting('app.tenant', true) <> ''
    UNION ALL SELECT 'role ' || CURRENT_USER WHERE CURRENT_USER <> SESSION_USER
    UNION ALL SELECT 'lock ' || objid FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND classid = 42 AND pid = pg_catalog.pg_backend_pid()
    UNION ALL SELECT 'channel ' || pg_listening_channels FROM pg_catalog.pg_listening_channels()
    UNION ALL SELECT 'statement ' || name FROM pg_catalog.pg_prepared_statements
    UNION ALL SELECT 'home is ' || pg_catalog.current_schema() WHERE pg_catalog.current_schema() <> %s
    UNION ALL SELECT 'auth_group is a stranger' WHERE pg_catalog.to_regclass('auth_group')
        IS DISTINCT FROM pg_catalog.to_regclass(pg_catalog.quote_ident(%s) || '.auth_group')
"""


@shared_task
def leaves(mess: str, name: str) -> None:
    _find_nothing()
    Group.objects.create(name=name)
    _execute(MESSES[mess])


@shared_task
def fails_and_leaves(mess: str, name: str) -> None:
    """An error of the database after the mess, in a plain task: nothing is rolled back but that statement."""
    _find_nothing()
    Group.objects.create(name=name)
    _execute(MESSES[mess])
    with suppress(DatabaseError):
        _execute("SELECT 1 / 0")


@shared_task(bind=True, atomic=False)
def leaves_open(self: TenantTask, mess: str, name: str) -> None:
    """Ends first: what is left in an open transaction afterwards is rolled back."""
    _find_nothing()
    with self.completion():
        Group.objects.create(name=name)
    if mess == OPEN_TRANSACTION:
        _execute("BEGIN; CREATE TEMP TABLE staging (); SET timezone = 'Asia/Tokyo'")
    else:
        _execute(MESSES[mess])


@shared_task
def leaves_open_plainly(mess: str, name: str) -> None:
    _find_nothing()
    Group.objects.create(name=name)
    _execute("BEGIN; CREATE TEMP TABLE staging (); SET timezone = 'Asia/Tokyo'")


def _find_nothing() -> None:
    home = connection.schema_name
    with connection.cursor() as cursor:
        cursor.execute(LEFT, [home, home])
        found = [what for (what,) in cursor.fetchall()]
    assert not found, found


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
