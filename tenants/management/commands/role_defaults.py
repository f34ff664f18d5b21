"""`manage.py role_defaults`: the defaults of database sessions, which live on the role."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from tenants.connection import connection
from tenants.role import effective_defaults, remove_role_defaults, role_defaults, write_role_defaults, wrong_defaults


class Command(BaseCommand):
    """`manage.py role_defaults`, `--write`, `--remove`."""

    help = "Show the defaults of database sessions. The release step writes them. Ends with 1 if one does not hold."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        action = parser.add_mutually_exclusive_group()
        action.add_argument("--write", action="store_true", help="write them first, as the release step does")
        action.add_argument(
            "--remove", action="store_true", help="remove them from the role; processes then refuse to start"
        )

    def handle(self, *, write: bool, remove: bool, **options: Any) -> None:
        """Raises SystemExit with 1 if a default does not hold, but for one that was just removed."""
        if write:
            write_role_defaults()
        if remove:
            remove_role_defaults()
        # What was written holds in new sessions.
        connection.close()
        found, wrong = effective_defaults(), wrong_defaults()
        for name, value in role_defaults().items():
            note = "" if found[name] == value else f"  (should be {value})"
            self.stdout.write(f"{name} = {found[name]}{note}")
        if wrong and not remove:
            raise SystemExit(1)
