"""`manage.py migrate_tenants`, the release step."""

import os
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants.connection import connection
from tenants.models import Spare, Tenant
from tenants.poolers import find_pooler_fault
from tenants.role import write_role_defaults
from tenants.schemas import Entries, find_missing
from tenants.spares import fill_spares, set_ready

BAR = 40
# A tenant that is being provisioned, or failed to be, gets its migrations from its job. A deleted one needs none.
SERVED = (Tenant.Status.ACTIVE, Tenant.Status.SUSPENDED)


class Command(BaseCommand):
    """Write the role's defaults, migrate `public`, then tenants and ready spares, then make missing spares."""

    help = (
        "Write the role's defaults; migrate `public`, the tenants, and the spare schemas. It may be stopped and "
        "repeated at any time. Ends with 1 if a schema could not be migrated; the others are."
    )
    # They would import the whole API each time; `manage.py check` runs them.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--patience", type=float, default=60, help="seconds to try again where tables are locked")
        parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, where SQL can't be replayed")

    def handle(self, **options: Any) -> None:
        """Raises CommandError, which ends the process with 1, if a tenant or `public` could not be migrated.

        So it does behind a pooler where nothing can be safe.
        """
        if fault := find_pooler_fault():
            raise CommandError(fault)
        self.replayed = 0
        write_role_defaults()
        with connection.direct():
            self._migrate_public(**options)
            migrated, failures = self._migrate_others(**options)
            made = fill_spares()

        # A tenant may have been deleted meanwhile, and a spare dropped.
        served = set(_tenant_schemas())
        failures = {schema: error for schema, error in failures.items() if schema in served}
        count = len(migrated) - len(failures)
        self.stdout.write(f"{count} schemas were migrated, {self.replayed} by a replay; {made} spares were made.")
        if failures:
            raise CommandError(f"{len(failures)} tenants could not be migrated: {', '.join(sorted(failures))}")

    def _migrate_public(self, **options: Any) -> None:
        failures = self._migrate(find_missing(["public"]), **options)
        if failures:
            raise CommandError(f"Nothing else was migrated. {failures['public']}")

    def _migrate_others(self, **options: Any) -> tuple[set[str], dict[str, str]]:
        """Migrate until no schema is behind, since some may be opened meanwhile. Returns those tried, and failures."""
        tried: set[str] = set()
        failures: dict[str, str] = {}
        while behind := {name: lack for name, lack in find_missing(_schemas()).items() if name not in tried}:
            tried |= behind.keys()
            set_ready(behind, ready=False)
            failed = self._migrate(behind, **options)
            set_ready(behind.keys() - failed.keys(), ready=True)
            failures |= failed
        return tried, failures

    def _migrate(self, behind: Mapping[str, Entries], *, patience: float, jobs: int, **_: Any) -> dict[str, str]:
        """Migrate these schemas. Returns the error of each that could not be."""
        if not behind:
            return {}
        # Here, because it imports all of Django's machinery for migrations.
        from tenants.upgrade import upgrade

        failed = {}
        for done, outcome in enumerate(upgrade(behind, patience=patience, jobs=jobs), start=1):
            if outcome.replayed:
                self.replayed += 1
            if outcome.error:
                failed[outcome.schema] = outcome.error
                self.stderr.write(f"{outcome.schema}: {outcome.error}")
            self.show_progress(done, len(behind))
        return failed

    def show_progress(self, done: int, total: int) -> None:
        """Draw a bar, on a terminal only."""
        if not self.stdout.isatty():
            return
        filled = BAR * done // total
        ending = "\n" if done == total else ""
        self.stdout.write(f"\r[{'#' * filled:{BAR}}] {done}/{total}", ending=ending)
        self.stdout.flush()


def _tenant_schemas() -> list[str]:
    return list(Tenant.objects.filter(status__in=SERVED).order_by("pk").values_list("schema_name", flat=True))


def _schemas() -> list[str]:
    spares = Spare.objects.filter(ready=True)
    return [*_tenant_schemas(), *(spare.schema_name for spare in spares)]
