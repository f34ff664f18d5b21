"""For how many locks a backup of all tenants needs room in PostgreSQL."""

from typing import NamedTuple

from tenants.connection import fetch_one

# pg_dump locks each table, and before PostgreSQL 18 each sequence, all in one transaction.
LOCKS = """
SELECT
    (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace home ON home.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    ),
    pg_catalog.current_setting('max_locks_per_transaction')::int,
    pg_catalog.current_setting('max_connections')::int + pg_catalog.current_setting('max_prepared_transactions')::int
"""
#: A backup fills half of the room. The rest is for what else goes on, and for tenants to come.
RESERVE = 2


class LockTable(NamedTuple):
    """What a backup locks at once, and the settings that say how many locks there may be."""

    relations: int
    locks_per_transaction: int
    transactions: int

    @property
    def room(self) -> int:
        """For how many locks there is room, of all sessions together."""
        return self.locks_per_transaction * self.transactions

    @property
    def needed_per_transaction(self) -> int:
        """What `max_locks_per_transaction` should be at the least."""
        return -(-RESERVE * self.relations // self.transactions)


def lock_table() -> LockTable:
    """Of this database, as it is now."""
    return LockTable(*fetch_one(LOCKS, []))
