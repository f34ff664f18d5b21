"""Many tenants, cheaply: schemas made as `pg_dump` describes one that was migrated."""

import subprocess
from collections.abc import Sequence

from bench.database import Database
from devstack import DevstackError

# The slug of the tenant that is set up the normal way; no other name contains it.
PATTERN = "benchpattern"
# What plain tasks and durable jobs of bench/work touch in their tenant's schema.
TABLES_OF_JOBS = ("django_celery_results_taskresult", "work_row", "work_note")
# Rows that migrations leave.
MIGRATED = ("django_migrations", "django_content_type", "auth_permission")
COPY = """
    INSERT INTO "{home}".{table} SELECT * FROM "{pattern}".{table};
    SELECT setval(pg_get_serial_sequence('"{home}".{table}', 'id'), (SELECT max(id) FROM "{home}".{table}));
"""
# How each writes that there is a tenant.
TENANTRY = """
    INSERT INTO tenants_tenant (id, schema_name, name, slug, status, failure, timezone, created_at)
    VALUES (gen_random_uuid(), '{home}', '{home}', '{home}', 'active', '', 'UTC', now());
    INSERT INTO tenants_domain (domain, is_primary, tenant_id)
    SELECT '{home}.localhost', true, id FROM tenants_tenant WHERE slug = '{home}';
"""
TENANT_SCHEMAS = """
    INSERT INTO customers_client (schema_name, name) VALUES ('{home}', '{home}');
    INSERT INTO customers_domain (domain, is_primary, tenant_id)
    SELECT '{home}.localhost', true, id FROM customers_client WHERE schema_name = '{home}';
"""


def add_tenants(
    database: Database, count: int, *, pattern: str, rows: str = TENANTRY, tables: Sequence[str] = TABLES_OF_JOBS
) -> list[str]:
    """Active tenants with these tables of the pattern's schema, or all if none are named; their schemas' names."""
    ddl = _dumped(database, pattern, tables)
    homes = [f"t{number:04}" for number in range(count)]
    for home in homes:
        schema = f'CREATE SCHEMA "{home}";' if tables else ""
        database.sql(schema + ddl.replace(pattern, home))
        database.sql(f"SET search_path = public; {rows.format(home=home)}")
        for table in () if tables else MIGRATED:
            database.sql(COPY.format(pattern=pattern, home=home, table=table))
        add_work(database, home)
    return homes


def add_work(database: Database, home: str) -> None:
    """The row that tells a body that it is at home."""
    database.sql(f"INSERT INTO \"{home}\".work_row VALUES ('{home}')")


def _dumped(database: Database, pattern: str, tables: Sequence[str]) -> str:
    chosen = [f"--table={pattern}.{table}" for table in tables] or [f"--schema={pattern}"]
    command = [str(database.postgres.programs / "pg_dump"), "--schema-only", "--no-owner", *chosen, database.url]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DevstackError(f"pg_dump failed: {done.stderr}")
    # Lines that begin so are psql's.
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("\\"))
