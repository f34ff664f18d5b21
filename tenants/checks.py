"""Django system checks: of options that Tenantry refuses (tenants/postgresql/options.py has them), and of roles."""

from collections.abc import Collection, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS

from tenants.changes import unseen_writers
from tenants.locks import lock_table
from tenants.postgresql.options import ENGINE, Refusal, find_refused, find_refused_settings


@register
def check_options(**kwargs: Any) -> list[Error]:
    """What Django's `check` runs."""
    found = [*find_refused_settings(), *_in_databases()]
    return [Error(message, hint=remedy, id=id) for id, message, remedy in found]


def _in_databases() -> Iterator[Refusal]:
    for alias, database in settings.DATABASES.items():
        if database.get("ENGINE") == ENGINE:
            found = list(find_refused(alias, database))
            yield from found
            past_pooler = {**database, **database.get("DIRECT", {})}
            past_pooler.pop("DIRECT", None)
            yield from (refusal for refusal in find_refused(alias, past_pooler) if refusal not in found)
        elif alias == DEFAULT_DB_ALIAS:
            yield Refusal(
                "tenants.E013",
                f"DATABASES[{alias!r}] has the ENGINE {database.get('ENGINE')}, which does not keep tenants apart.",
                f"Set it to {ENGINE}.",
            )


@register(Tags.database)
def check_writers_are_seen(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """What `check --database default` runs, as the release step does."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    return [
        Warning(
            f"The role {name} may change what lists show, unseen: while one of its transactions writes, `synced_until` "
            "stands still.",
            hint="Grant pg_read_all_stats to the role of DATABASE_URL, or take that right from the other one.",
            id="tenants.W001",
        )
        for name in unseen_writers()
    ]


@register(Tags.database)
def check_room_for_locks(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """As above. With little room pg_dump fails, and so may whoever needs a lock meanwhile."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    locks = lock_table()
    if locks.locks_per_transaction >= locks.needed_per_transaction:
        return []
    return [
        Warning(
            f"pg_dump of this database takes {locks.relations} locks at once, one for each table and sequence. "
            f"PostgreSQL has room for {locks.room}, for all sessions together.",
            hint=f"Set max_locks_per_transaction to {locks.needed_per_transaction} or more (it is "
            f"{locks.locks_per_transaction}), and restart PostgreSQL. See docs/how-to/back-up-and-restore.md.",
            id="tenants.W002",
        )
    ]
