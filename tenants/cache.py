"""Cache keys that carry the tenant, so that no tenant finds what another one has stored."""

from tenants.connection import connection


def key_of_tenant(key: str, key_prefix: str, version: int) -> str:
    """A cache's KEY_FUNCTION: the schema that is active is part of each key.

    What tenants share on purpose is stored in a cache with an alias of its own, and Django's own key function.
    """
    return f"{key_prefix}:{connection.schema_name}:{version}:{key}"
