"""A product whose releases a test writes: an app `library` of its own beside the real ones, in databases of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from devstack import CHECKOUT
from devstack.external import fresh_database
from tests.tenants.catalog import catalog

SERVED = ("acme", "globex", "initech", "hooli", "umbrella", "stark")
SPARES = 2
SETTINGS = f"""
from config.settings import *

TENANT_APPS = [*TENANT_APPS, "library"]
INSTALLED_APPS = [*INSTALLED_APPS, "library"]
SPARE_SCHEMAS = env.integer("SPARE_SCHEMAS", default={SPARES})
"""
MODELS = """
from django.db import models


class Book(models.Model):
    title = models.CharField(max_length=100)
    owner = models.ForeignKey("accounts.User", null=True, on_delete=models.CASCADE)
"""
MIGRATION = """
import uuid
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

{before}

class Migration(migrations.Migration):
    dependencies = [{dependency}]
    atomic = {atomic}
    operations = [{operations}]
"""
INITIAL = """
    migrations.CreateModel("Book", [
        ("id", models.BigAutoField(primary_key=True)),
        ("title", models.CharField(max_length=100)),
        ("owner", models.ForeignKey("accounts.User", null=True, on_delete=models.CASCADE)),
    ])
"""
# Tenants of each kind; those that are served take their schemas from the spares, and own two books each.
POPULATE = f"""
from django.db import connection, transaction
from django_tenants.utils import tenant_context
from library.models import Book
from tenants.models import Tenant
from tenants.services import register_tenant
from tenants.spares import take_spare

def register(slug, status):
    tenant = register_tenant(name=slug.title(), slug=slug)
    Tenant.objects.filter(pk=tenant.pk).update(status=status)
    return tenant

with transaction.atomic():
    for slug in {SERVED}:
        tenant = register(slug, "suspended" if slug == "stark" else "active")
        assert take_spare(tenant)
        with tenant_context(tenant):
            Book.objects.bulk_create([Book(title="Emma"), Book(title="Ulysses")])
    register("new", "provisioning")
    register("going", "deleting")
    failed = register("failed", "failed")
    connection.cursor().execute(f'CREATE SCHEMA "{{failed.schema_name}}"')
"""

Catalogs = dict[str, dict[str, list[tuple[Any, ...]]]]


class Product:
    """The code, in a folder. `release` adds to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.migrations = folder / "library" / "migrations"

    def write(self) -> None:
        self.migrations.mkdir(parents=True)
        for package in (self.migrations, self.migrations.parent):
            (package / "__init__.py").touch()
        (self.folder / "release_settings.py").write_text(SETTINGS)
        (self.folder / "library" / "models.py").write_text(MODELS)
        self.release(INITIAL)

    def release(self, operations: str, *, before: str = "", models: str = "", atomic: bool = True) -> None:
        """Add a migration, and lines to models.py: fields of Book, then further models."""
        done = sorted(file.stem for file in self.migrations.glob("0*.py"))
        dependency = f'"library", "{done[-1]}"' if done else '"accounts", "0001_initial"'
        migration = MIGRATION.format(before=before, dependency=f"({dependency})", atomic=atomic, operations=operations)
        (self.migrations / f"{len(done) + 1:04}_release.py").write_text(migration)
        with (self.folder / "library" / "models.py").open("a") as file:
            file.write(models)

    def start(self, url: str, *command: str, **environ: str) -> subprocess.Popen[bytes]:
        """manage.py, in a session of its own; `output` has what it prints."""
        env = {"PYTHONPATH": str(self.folder), "DJANGO_SETTINGS_MODULE": "release_settings", "DATABASE_URL": url}
        with (self.folder / "output").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "manage.py", *command],
                cwd=CHECKOUT,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env, **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def run(self, url: str, *command: str, code: int = 0, **environ: str) -> str:
        """What manage.py printed."""
        assert self.start(url, *command, **environ).wait(timeout=120) == code, self.output
        return self.output


@contextmanager
def populated(url: str, folder: Path) -> Iterator[str]:
    """The URL of a database with tenants and spares that the first release has migrated."""
    with fresh_database(url, superuser_url=os.environ["DATABASE_SUPERUSER_URL"]) as base:
        product = Product(folder)
        product.write()
        product.run(base, "migrate_tenants", SPARE_SCHEMAS=str(len(SERVED) + SPARES))
        product.run(base, "shell", "--no-imports", "-c", POPULATE)
        yield base


def schemas(url: str) -> dict[str, str]:
    """Those of the served tenants, by slug."""
    query = "SELECT slug, schema_name FROM public.tenants_tenant WHERE status IN ('active', 'suspended')"
    with psycopg.connect(url) as connection:
        return dict(connection.execute(query).fetchall())


def catalogs(url: str) -> Catalogs:
    """Of each served tenant."""
    with psycopg.connect(url) as connection:
        return {slug: catalog(connection, schema) for slug, schema in schemas(url).items()}


def spare_catalogs(url: str) -> Catalogs:
    """Of each spare that may be taken."""
    query = "SELECT '_spare_' || right(replace(id::text, '-', ''), 12) FROM public.tenants_spare WHERE ready"
    with psycopg.connect(url) as connection:
        return {schema: catalog(connection, schema) for (schema,) in connection.execute(query).fetchall()}
