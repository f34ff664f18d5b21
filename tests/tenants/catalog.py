"""All that PostgreSQL and Django know of a schema, but for its name: equal for two schemas that were migrated alike."""

from typing import Any

import psycopg

# With the search path on the schema, PostgreSQL leaves its name out of what it prints.
PARTS = {
    "relations": """
        SELECT relname, relkind::text, relpersistence::text, reloptions::text, pg_get_userbyid(relowner)
        FROM pg_class WHERE relnamespace = {schema}
    """,
    "columns": """
        SELECT relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,
            attgenerated::text, attcollation::regcollation::text, pg_get_expr(adbin, adrelid),
            col_description(attrelid, attnum)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = {schema} AND attnum > 0 AND NOT attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid, true), convalidated FROM pg_constraint
        WHERE connamespace = {schema}
    """,
    "indexes": """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid, 0, true), indisvalid FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = {schema}
    """,
    "sequences": """
        SELECT seqrelid::regclass::text, seqtypid::regtype::text, seqstart, seqincrement, seqmax, seqmin, seqcache,
            seqcycle, (SELECT refobjid::regclass::text || '.' || attname FROM pg_depend
                JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
                WHERE objid = seqrelid AND classid = 'pg_class'::regclass AND deptype IN ('a', 'i'))
        FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid WHERE relnamespace = {schema}
    """,
    "triggers": """
        SELECT tgrelid::regclass::text, regexp_replace(tgname, '\\d+$', ''), tgfoid::regproc::text, tgenabled::text
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE relnamespace = {schema}
    """,
    "routines": "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = {schema}",
    "types": "SELECT typname, typtype::text FROM pg_type WHERE typnamespace = {schema}",
    "migrations": "SELECT app, name FROM django_migrations",
    "content types": "SELECT app_label, model FROM django_content_type",
    "permissions": """
        SELECT app_label, model, codename, name FROM auth_permission
        JOIN django_content_type kind ON kind.id = content_type_id
    """,
}


def catalog(connection: psycopg.Connection, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
    found = {}
    for part, query in PARTS.items():
        rows = connection.execute(query.format(schema="current_schema()::regnamespace"))
        found[part] = sorted(rows, key=repr)
    connection.execute("RESET search_path")
    assert found["permissions"], "the query found nothing: it proves nothing"
    return found
