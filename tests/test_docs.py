"""What the documents say of the code."""

import os
import re
import secrets
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from devstack import CHECKOUT

SUPERUSER_URL = os.environ.get("DATABASE_SUPERUSER_URL", "")
SQL_BLOCK = re.compile(r"^```sql\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
CODE_BLOCK = re.compile(r"^```\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def test_the_readme_lists_each_folder_once() -> None:
    section = (CHECKOUT / "README.md").read_text().partition("## Where things are")[2]
    listed = re.findall(r"^(\w+)/", CODE_BLOCK.findall(section)[0], flags=re.MULTILINE)
    packages = [file.parent.name for file in CHECKOUT.glob("*/__init__.py")]
    assert sorted(listed) == sorted([*packages, "docs"])


@pytest.mark.skipif(not SUPERUSER_URL, reason="needs DATABASE_SUPERUSER_URL, to make a role")
def test_the_sql_of_how_to_deploy() -> None:
    """A role with those rights is enough for the release step; its defaults are shown, and undone."""
    name = f"tenantry_test_{secrets.token_hex(6)}"
    text = (CHECKOUT / "docs/how-to/deploy.md").read_text()
    make, show, undo = (block.replace("tenantry", name) for block in SQL_BLOCK.findall(text))
    parts = urlsplit(SUPERUSER_URL)
    netloc = f"{name}:a%20long%20and%20random%20one@{parts.netloc.rpartition('@')[2]}"
    url = urlunsplit(parts._replace(netloc=netloc, path=f"/{name}"))

    with psycopg.connect(SUPERUSER_URL, autocommit=True) as superuser:
        for statement in make.split(";")[:-1]:
            superuser.execute(statement)
        try:
            assert "1 spares were made" in manage("migrate_tenants", DATABASE_URL=url, SPARE_SCHEMAS="1")
            assert len(superuser.execute(show).fetchall()) == 8
            assert "search_path = pg_catalog, pg_temp\n" in manage("role_defaults", DATABASE_URL=url)

            manage("role_defaults", "--remove", DATABASE_URL=url)
            assert superuser.execute(show).fetchall() == []
            manage("role_defaults", "--write", DATABASE_URL=url)
            superuser.execute(undo)
            assert superuser.execute(show).fetchall() == []
        finally:
            superuser.execute(f"DROP DATABASE {name}")
            superuser.execute(f"DROP ROLE {name}")


def manage(*command: str, **environ: str) -> str:
    argv = [sys.executable, "manage.py", *command]
    done = subprocess.run(argv, cwd=CHECKOUT, env={**os.environ, **environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
