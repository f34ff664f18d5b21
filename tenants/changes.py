"""Which rows changed since: `updated_at`, and up to when a reader has seen all changes.

A table whose lists can be kept in step has a column `updated_at` and a BEFORE trigger that runs
`public.tenants_set_updated_at()`. That function first gets the transaction its id and then takes the clock's time. So
a transaction that may still commit a change of an earlier time is either seen here, by its id, or has not begun to
write, and its time will be later than ours.
"""

from datetime import UTC, datetime

from tenants.connection import fetch_all, fetch_one

# Transactions that only read have no id, so a backup delays nobody. now() is older than this session's copy of what
# others do, which it keeps until its transaction ends. When transactions of other roles began is hidden from a role
# without pg_read_all_stats; of prepared ones nobody knows it. The function is what is below pg_stat_activity, whose
# joins take four times as long. Whoever has no `usesysid` is PostgreSQL itself, such as autovacuum.
WATERMARK = """
WITH writers AS (
    SELECT xact_start, usesysid, state FROM pg_catalog.pg_stat_get_activity(NULL)
    WHERE datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
        AND backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() AND usesysid IS NOT NULL
), unseen AS (
    SELECT FROM writers
    WHERE state = 'disabled' OR xact_start IS NULL AND NOT (
        pg_catalog.pg_has_role(usesysid, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
    )
    UNION ALL
    SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
)
SELECT least(pg_catalog.now(), (SELECT min(xact_start) FROM writers)), EXISTS (TABLE unseen)
"""


def synced_until() -> datetime | None:
    """The time up to which a query that begins after this call sees all changes there will ever be, in UTC.

    Rows that such a query does not see yet get this `updated_at` or a later one, as long as the server's clock is not
    set back. None while a transaction writes whose beginning this role can't see.
    """
    until, is_unseen = fetch_one(WATERMARK, [])
    return None if is_unseen else until.astimezone(UTC)


# Superusers are left out: there always are some.
UNSEEN_WRITERS = """
WITH synced AS (
    SELECT pg_class.oid, relowner FROM pg_catalog.pg_trigger JOIN pg_catalog.pg_class ON pg_class.oid = tgrelid
    WHERE tgfoid = pg_catalog.to_regproc('public.tenants_set_updated_at')
)
SELECT rolname FROM pg_catalog.pg_roles login
WHERE rolcanlogin AND NOT rolsuper
    AND pg_catalog.has_database_privilege(login.oid, pg_catalog.current_database(), 'CONNECT')
    AND NOT pg_catalog.pg_has_role(login.oid, 'USAGE') AND NOT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
    AND EXISTS (
        SELECT FROM synced
        WHERE pg_catalog.has_any_column_privilege(login.oid, synced.oid, 'INSERT, UPDATE')
            OR pg_catalog.pg_has_role(login.oid, relowner, 'MEMBER')
    )
ORDER BY rolname
"""


def unseen_writers() -> list[str]:
    """The roles that may write what lists show while `synced_until` can't tell when they began."""
    return [name for (name,) in fetch_all(UNSEEN_WRITERS, [])]
