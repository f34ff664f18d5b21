import os
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants.models import Spare, Tenant
from tenants.schemas import lacks
from tenants.spares import fill_spares, set_ready

BAR = 40
# Those that are being provisioned, or couldn't be, get their migrations from that; those that are deleted need none.
SERVED = (Tenant.Status.ACTIVE, Tenant.Status.SUSPENDED)


class Command(BaseCommand):
    help = (
        "Migrate `public`, the tenants, and the spare schemas. It may be stopped and repeated at any time. "
        "Ends with 1 if a schema could not be migrated; the others are."
    )
    # They would import the whole API each time; `manage.py check` runs them.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--patience", type=float, default=60, help="seconds to try again where tables are locked")
        parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, where SQL can't be replayed")

    def handle(self, **options: Any) -> None:
        self.replayed = 0
        if failures := self._migrate(lacks(["public"]), **options):
            raise CommandError(f"Nothing else was migrated. {failures['public']}")
        seen: set[str] = set()
        # Until none is behind, for some may be opened meanwhile.
        while behind := {schema: lack for schema, lack in lacks(_schemas()).items() if schema not in seen}:
            seen |= behind.keys()
            set_ready(behind, ready=False)
            failed = self._migrate(behind, **options)
            set_ready(behind.keys() - failed.keys(), ready=True)
            failures |= failed
        made = fill_spares()
        # A tenant may have been deleted under our hands, and a spare dropped.
        served = set(_tenants())
        failures = {schema: error for schema, error in failures.items() if schema in served}
        migrated = len(seen) - len(failures)
        self.stdout.write(f"{migrated} schemas were migrated, {self.replayed} by a replay; {made} spares were made.")
        if failures:
            raise CommandError(f"{len(failures)} tenants could not be migrated: {', '.join(sorted(failures))}")

    def _migrate(self, behind: Mapping[str, frozenset[str]], *, patience: float, jobs: int, **_: Any) -> dict[str, str]:
        """The error of each schema that could not be migrated."""
        if not behind:
            return {}
        from tenants.upgrade import upgrade  # with all of Django's machinery for migrations

        failed = {}
        for done, outcome in enumerate(upgrade(behind, patience=patience, jobs=jobs), start=1):
            self.replayed += outcome.replayed
            if outcome.error:
                failed[outcome.schema] = outcome.error
                self.stderr.write(f"{outcome.schema}: {outcome.error}")
            self.show(done, len(behind))
        return failed

    def show(self, done: int, total: int) -> None:
        if self.stdout.isatty():
            filled = BAR * done // total
            self.stdout.write(f"\r[{'#' * filled:{BAR}}] {done}/{total}", ending="\n" if done == total else "")
            self.stdout.flush()


def _tenants() -> list[str]:
    return list(Tenant.objects.filter(status__in=SERVED).order_by("pk").values_list("schema_name", flat=True))


def _schemas() -> list[str]:
    return [*_tenants(), *(spare.schema_name for spare in Spare.objects.filter(ready=True))]
