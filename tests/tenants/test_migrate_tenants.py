"""`migrate_tenants` against `migrate_schemas`, in real processes, on copies of one database."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.models import IntegerField
from django_tenants.utils import tenant_context

from devstack.external import fresh_database
from devstack.processes import wait_until
from tenants import replay
from tenants.management.commands.migrate_tenants import Command
from tenants.models import Tenant
from tenants.schemas import MIGRATION_LOCK, expected
from tests.tenants.releases import SERVED, SPARES, Catalogs, Product, catalogs, populated, schemas, spare_catalogs

Rows = dict[str, list[tuple[Any, ...]]]
GoAhead = Callable[[str], bool]

ALL = len(SERVED) + SPARES

ADD_FIELD = 'migrations.AddField("Book", "pages", models.IntegerField(default=7)),'
ADD_INDEX = 'migrations.AddIndex("Book", models.Index(fields=["pages"], name="book_pages")),'
PAGES = "    pages = models.IntegerField(default=7)\n"


class Change(NamedTuple):
    """What a release does."""

    operations: str
    before: str = ""
    models: str = ""
    atomic: bool = True


FIELD_AND_INDEX = Change(ADD_FIELD + ADD_INDEX, models=PAGES)
PYTHON = Change(
    ADD_FIELD + "migrations.RunPython(count),",
    before="""
def count(apps, schema_editor):
    for book in apps.get_model("library", "Book").objects.all():
        book.pages = len(book.title)
        book.save()
""",
    models=PAGES,
)
REPLAYED = {
    "a field and an index": FIELD_AND_INDEX,
    "a model": Change(
        """
        migrations.CreateModel("Loan", [
            ("id", models.BigAutoField(primary_key=True)),
            ("code", models.CharField(max_length=20, unique=True)),
            ("book", models.ForeignKey("library.Book", on_delete=models.CASCADE)),
            ("readers", models.ManyToManyField("accounts.User")),
        ], options={"permissions": [("extend_loan", "Can't be without it; 100%")]}),
        """,
        models="""

class Loan(models.Model):
    code = models.CharField(max_length=20, unique=True)
    book = models.ForeignKey(Book, on_delete=models.CASCADE)
    readers = models.ManyToManyField("accounts.User")

    class Meta:
        permissions = [("extend_loan", "Can't be without it; 100%")]
""",
    ),
    "SQL": Change(
        """
        migrations.SeparateDatabaseAndState([migrations.RunSQL([
            "UPDATE library_book SET title = title || '; 100%' -- all of them",
            ("INSERT INTO library_book (title) VALUES (%s)", ["50% of O'Neill"]),
        ])]),
        """
    ),
    "SQL again": Change(
        """
        migrations.AlterField("Book", "title", models.CharField(max_length=200)),
        migrations.RenameField("Book", "title", "name"),
        """,
    ),
}
NOT_REPLAYED = {
    "Python": PYTHON,
    "an index that is built concurrently": Change(
        'AddIndexConcurrently("Book", models.Index(fields=["title"], name="book_title")),', atomic=False
    ),
}
# These need no comparison, since they go the normal way; it is enough that they do.
NOR_THESE = {
    "a default that differs": Change('migrations.AddField("Book", "key", models.UUIDField(default=uuid.uuid4)),'),
    "what looks for the names of constraints": Change(
        'migrations.AlterField("Book", "owner", models.ForeignKey("accounts.User", null=True, db_constraint=False,'
        " on_delete=models.CASCADE)),"
    ),
    "SQL that asks where it is": Change(
        'migrations.RunSQL(["INSERT INTO library_book (title) VALUES (current_schema())"]),'
    ),
    "a handler that writes more than Django does": Change(
        ADD_FIELD,
        models="""

def permit(sender, **kwargs):
    from django.contrib.auth.models import Permission
    from django.db import connection
    if connection.schema_name != "public":
        Permission.objects.get_or_create(codename="burn", content_type_id=1)

from django.db.models.signals import post_migrate
post_migrate.connect(permit)
""",
    ),
    "a handler that reads something else": Change(
        ADD_FIELD,
        models="""

def look(sender, **kwargs):
    from django.db import connection
    if connection.schema_name != "public":
        connection.cursor().execute("SELECT title FROM library_book")

from django.db.models.signals import post_migrate
post_migrate.connect(look)
""",
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("base") / "product"
    with populated(os.environ["DATABASE_URL"], folder) as url:
        yield url, folder


@contextmanager
def copy_of(base: str) -> Iterator[str]:
    given, superuser = os.environ["DATABASE_URL"], os.environ["DATABASE_SUPERUSER_URL"]
    with fresh_database(given, superuser_url=superuser, template=base.rpartition("/")[2]) as url:
        yield url


@pytest.fixture
def url(base: tuple[str, Path]) -> Iterator[str]:
    with copy_of(base[0]) as url:
        yield url


@pytest.fixture
def product(base: tuple[str, Path], tmp_path: Path) -> Product:
    shutil.copytree(base[1], tmp_path / "product")
    return Product(tmp_path / "product")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[Catalogs, Rows]]:
    """What `migrate_schemas` makes of a release, kept."""
    return {}


@pytest.fixture
def expect(
    base: tuple[str, Path], product: Product, url: str, outcomes: dict[str, tuple[Catalogs, Rows]]
) -> Callable[[], None]:
    """Compares with what `migrate_schemas` makes of another copy."""

    def expect() -> None:
        release = "".join(file.read_text() for file in sorted(product.migrations.iterdir()) if file.is_file())
        if release not in outcomes:
            with copy_of(base[0]) as other:
                forget_others(other)
                product.run(other, "migrate_schemas", "--noinput")
                outcomes[release] = catalogs(other), books_of(other)
        expected, books = outcomes[release]
        got = catalogs(url)
        assert set(got) == set(expected) == set(SERVED)
        for slug, parts in expected.items():
            for part, rows in parts.items():
                assert got[slug][part] == rows, (slug, part)
        assert books_of(url) == books
        spares = spare_catalogs(url)
        assert len(spares) == SPARES
        assert all(parts == expected["acme"] for parts in spares.values())

    return expect


def forget_others(url: str) -> None:
    """Tenants without a schema: `migrate_schemas` ends when it comes to one."""
    others = "SELECT id FROM public.tenants_tenant WHERE status NOT IN ('active', 'suspended')"
    sql(url, f"DELETE FROM public.tenants_domain WHERE tenant_id IN ({others})")
    sql(url, f"DELETE FROM public.tenants_tenant WHERE id IN ({others})")


def books_of(url: str) -> Rows:
    with psycopg.connect(url) as connection:
        query = 'SELECT * FROM "{}".library_book ORDER BY id'
        found = {slug: connection.execute(query.format(name)).fetchall() for slug, name in schemas(url).items()}
    assert all(len(rows) >= 2 for rows in found.values())
    return found


def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description is not None else []


def have_pages(url: str) -> set[str]:
    """The tenants whose books have that column."""
    rows = sql(url, "SELECT table_schema FROM information_schema.columns WHERE column_name = 'pages'")
    migrated = {schema for (schema,) in rows}
    return {slug for slug, schema in schemas(url).items() if schema in migrated}


@contextmanager
def locked(product: Product, url: str, slug: str, *, until: GoAhead) -> Iterator[subprocess.Popen[bytes]]:
    """`migrate_tenants` runs, and somebody changes the tenant's books; then that is rolled back, and it ends."""
    with psycopg.connect(url) as writer:
        writer.execute(f'UPDATE "{schemas(url)[slug]}".library_book SET title = title')
        with product.start(url, "migrate_tenants", "--patience=60") as process:
            try:
                wait_until(lambda: until(url), seconds=60, what="all is done but what is locked")
                assert process.poll() is None
                yield process
            except BaseException:
                process.kill()
                raise
            finally:
                writer.close()


def only_without(*slugs: str) -> GoAhead:
    """All tenants but these have the new column."""
    return lambda url: have_pages(url) == {*SERVED} - {*slugs}


def is_waiting(url: str) -> bool:
    """Whether somebody waits for a lock."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(sql(url, waits))


def in_session(leader: int) -> bool:
    """Whether a process is left of those that it started."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def release(product: Product, change: Change) -> None:
    product.release(change.operations, before=change.before, models=change.models, atomic=change.atomic)


def numbers(output: str) -> list[int]:
    """Of schemas that were migrated, of those that were by a replay, of spares that were made."""
    return list(map(int, re.findall(r"\d+", output.splitlines()[-1])))


# The same as migrate_schemas


@pytest.mark.parametrize("name", ["a field and an index", "a model", "Python", "an index that is built concurrently"])
def test_it_does_what_migrate_schemas_does(name: str, product: Product, url: str, expect: Callable[[], None]) -> None:
    release(product, (REPLAYED | NOT_REPLAYED)[name])
    assert numbers(product.run(url, "migrate_tenants")) == [ALL, ALL - 2 if name in REPLAYED else 0, 0]
    expect()
    assert numbers(product.run(url, "migrate_tenants")) == [0, 0, 0]


@pytest.mark.parametrize("name", NOR_THESE)
def test_what_may_differ_is_not_replayed(name: str, product: Product, url: str) -> None:
    release(product, NOR_THESE[name])
    assert numbers(product.run(url, "migrate_tenants")) == [ALL, 0, 0]


@pytest.mark.parametrize(
    ("operation", "atomic"),
    [
        (ops.RunPython(ops.RunPython.noop), True),
        (ops.SeparateDatabaseAndState([ops.RunPython(ops.RunPython.noop)]), True),
        (type("Own", (ops.AddField,), {})("book", "pages", IntegerField()), True),
        (ops.RenameModel("book", "volume"), True),
        (ops.AddField("book", "pages", IntegerField()), False),
    ],
)
def test_what_nobody_knows_is_not_tried(operation: Operation, atomic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    app, name = "tenants", "0002_spare"  # SQL alone, as it stands
    assert replay.is_replayable({f"migration|{app}|{name}", f"type|{app}|book"})
    monkeypatch.setattr(f"{app}.migrations.{name}.Migration.operations", [operation])
    monkeypatch.setattr(f"{app}.migrations.{name}.Migration.atomic", atomic)
    assert not replay.is_replayable({f"migration|{app}|{name}", f"type|{app}|book"})


def test_a_model_that_no_migration_knows(product: Product, url: str, expect: Callable[[], None]) -> None:
    product.release("", models="\n\nclass Unknown(models.Model):\n    pass\n")
    assert numbers(product.run(url, "migrate_tenants")) == [ALL, ALL - 2, 0]
    expect()
    assert numbers(product.run(url, "migrate_tenants")) == [0, 0, 0]


def test_several_releases_at_once(product: Product, url: str, expect: Callable[[], None]) -> None:
    # The second could not follow the first in one transaction: triggers would be pending.
    for name in ("a model", "SQL", "SQL again", "a field and an index"):
        release(product, REPLAYED[name])
    # One of them has had the first already.
    product.run(url, "migrate_schemas", "--tenant", f"--schema={schemas(url)['hooli']}", "library", "0002")
    assert numbers(product.run(url, "migrate_tenants")) == [ALL, ALL - 3, 0]
    expect()


# Whom it migrates


def test_only_tenants_that_are_served(product: Product, url: str) -> None:
    release(product, FIELD_AND_INDEX)
    before = sql(url, "SELECT schemaname, count(*) FROM pg_tables GROUP BY 1 ORDER BY 1")
    product.run(url, "migrate_tenants")
    assert sql(url, "SELECT schemaname, count(*) FROM pg_tables GROUP BY 1 ORDER BY 1") == before
    assert have_pages(url) == set(SERVED)


def test_one_that_is_opened_meanwhile(product: Product, url: str) -> None:
    release(product, FIELD_AND_INDEX)
    sql(url, "UPDATE public.tenants_tenant SET status = 'provisioning' WHERE slug = 'stark'")
    with locked(product, url, "hooli", until=only_without("hooli", "stark")) as process:
        sql(url, "UPDATE public.tenants_tenant SET status = 'active' WHERE slug = 'stark'")
    assert process.returncode == 0, product.output
    assert have_pages(url) == set(SERVED)


def test_one_that_is_deleted_meanwhile(product: Product, url: str) -> None:
    release(product, FIELD_AND_INDEX)
    with locked(product, url, "hooli", until=only_without("hooli")) as process:
        # A lock on a table holds up no renaming, so that the schema is gone from one moment to the next.
        sql(url, f'ALTER SCHEMA "{schemas(url)["hooli"]}" RENAME TO gone')
        sql(url, "UPDATE public.tenants_tenant SET status = 'deleting' WHERE slug = 'hooli'")
    assert process.returncode == 0, product.output
    assert have_pages(url) == {*SERVED} - {"hooli"}
    assert sql(url, "SELECT 1 FROM pg_class WHERE relnamespace = 'gone'::regnamespace AND relname = 'book_pages'") == []


# When something is wrong


@pytest.mark.parametrize(
    ("slug", "change"), [("acme", FIELD_AND_INDEX), ("hooli", PYTHON)], ids=["replayed", "normally"]
)
def test_a_tenant_that_is_locked_holds_up_nobody(
    slug: str, change: Change, product: Product, url: str, expect: Callable[[], None]
) -> None:
    release(product, change)
    with locked(product, url, slug, until=only_without(slug)) as process:
        pass
    assert process.returncode == 0, product.output
    expect()


@pytest.mark.parametrize(
    ("change", "how"),
    [(FIELD_AND_INDEX, "reads its books"), (PYTHON, "reads its books"), (FIELD_AND_INDEX, "migrates it")],
    ids=["replayed", "normally", "by another"],
)
def test_patience_ends(change: Change, how: str, product: Product, url: str) -> None:
    release(product, change)
    schema = schemas(url)["hooli"]
    with psycopg.connect(url) as somebody:
        if how == "migrates it":
            somebody.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [MIGRATION_LOCK, schema])
        else:
            somebody.execute(f'SELECT FROM "{schema}".library_book')
        output = product.run(url, "migrate_tenants", "--patience=0.1", code=1)
    assert re.search(r"hooli_\w+: .*lock timeout", output)
    assert have_pages(url) == {*SERVED} - {"hooli"}


def test_an_index_that_is_built_concurrently_waits(product: Product, url: str, expect: Callable[[], None]) -> None:
    release(product, NOT_REPLAYED["an index that is built concurrently"])
    with locked(product, url, "hooli", until=is_waiting) as process, pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)  # longer than it waits for other locks
    assert process.returncode == 0, product.output
    expect()


@pytest.mark.parametrize("slug", ["acme", "hooli"])
def test_a_broken_tenant_does_not_stop_the_others(
    slug: str, product: Product, url: str, expect: Callable[[], None]
) -> None:
    release(product, FIELD_AND_INDEX)
    schema = schemas(url)[slug]
    sql(url, f'CREATE INDEX book_pages ON "{schema}".library_book (title)')
    output = product.run(url, "migrate_tenants", code=1)
    assert f'{schema}: ProgrammingError: relation "book_pages" already exists' in output
    assert f"1 tenants could not be migrated: {schema}" in output
    assert have_pages(url) == {*SERVED} - {slug}
    sql(url, f'DROP INDEX "{schema}".book_pages')
    assert numbers(product.run(url, "migrate_tenants")) == [1, 0, 0]


@pytest.mark.parametrize("change", [FIELD_AND_INDEX, PYTHON], ids=["replayed", "normally"])
def test_it_is_killed_and_goes_on(change: Change, product: Product, url: str, expect: Callable[[], None]) -> None:
    release(product, change)
    with locked(product, url, "hooli", until=only_without("hooli")) as process:
        process.kill()
        process.wait()
        wait_until(lambda: not in_session(process.pid), seconds=30, what="its children are gone")
    # Nobody takes a spare of which nobody knows how far it is.
    assert sql(url, "SELECT count(*) FROM public.tenants_spare WHERE ready") == [(0,)]
    assert numbers(product.run(url, "migrate_tenants")) == [1, 0, SPARES]
    expect()


@pytest.mark.parametrize("gap", ["auth_permission", "django_content_type"])
def test_what_follows_the_migrations_is_made_up_for(
    gap: str, product: Product, url: str, expect: Callable[[], None]
) -> None:
    schema = schemas(url)["hooli"]
    sql(url, f'TRUNCATE "{schema}".{gap} CASCADE')
    assert numbers(product.run(url, "migrate_tenants")) == [1, 0, 0]
    expect()


def test_without_public_nothing_goes_on(product: Product, url: str) -> None:
    release(product, FIELD_AND_INDEX)
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE django_migrations IN SHARE MODE")
        output = product.run(url, "migrate_tenants", "--patience=0.1", code=1)
    assert "Nothing else was migrated" in output
    assert have_pages(url) == set()


# What it looks like


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar() -> None:
    out = Terminal()
    command = Command(stdout=out)
    command.show_progress(50, 200)
    assert out.getvalue() == "\r[##########                              ] 50/200"
    command.show_progress(200, 200)
    assert out.getvalue().endswith("] 200/200\n")


def test_a_log_shows_none() -> None:
    out = io.StringIO()
    Command(stdout=out).show_progress(1, 2)
    assert not out.getvalue()


def test_with_nothing_to_do_no_migration_is_loaded(
    acme: Tenant, globex: Tenant, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr(MigrationLoader, "__init__", lambda *_: pytest.fail("migrations were loaded"))
    monkeypatch.delitem(sys.modules, "tenants.upgrade", raising=False)
    out = io.StringIO()
    with django_assert_max_num_queries(12):
        call_command("migrate_tenants", stdout=out)
    assert numbers(out.getvalue()) == [0, 0, 0]
    assert "tenants.upgrade" not in sys.modules


def test_what_is_expected_is_what_migrations_make(acme: Tenant) -> None:
    names = {f"migration|{app}|{name}" for app, name in MigrationLoader(None).disk_migrations}
    assert {entry for entry in expected() if entry.startswith("migration|")} == names
    with tenant_context(acme):
        types = {f"type|{kind.app_label}|{kind.model}" for kind in ContentType.objects.all()}
        permissions = {
            f"permission|{kind.app_label}|{kind.model}|{codename}"
            for kind, codename in ((row.content_type, row.codename) for row in Permission.objects.all())
        }
    assert expected() == names | types | permissions
