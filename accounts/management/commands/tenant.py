from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.db import transaction

from accounts.services import retry_sign_up
from tenants.audit import record
from tenants.errors import Conflict
from tenants.models import QuarantinedDomain, Tenant
from tenants.services import delete_tenant, domain_of, resume_tenant, suspend_tenant
from tenants.text import normalize_host

CHANGES = {
    "suspend": (suspend_tenant, "stop serving it; its jobs wait"),
    "resume": (resume_tenant, "serve it again"),
    "delete": (delete_tenant, "delete it for good, with all data; the relay does it"),
    "provision": (retry_sign_up, "try again after provisioning failed"),
}


class Command(BaseCommand):
    help = "List the tenants, change the status of one, or free the domain of one that was deleted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="slug, status, host, and why provisioning failed")
        for verb, (_, explanation) in CHANGES.items():
            of_verb = verbs.add_parser(verb, help=explanation)
            of_verb.add_argument("slug")
            if verb == "delete":
                of_verb.add_argument("--noinput", action="store_false", dest="interactive", help="don't ask")
        free = verbs.add_parser("free", help="end the quarantine of a deleted tenant's domain")
        free.add_argument("name", metavar="SLUG_OR_DOMAIN")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "list":
            self._list()
        elif verb == "free":
            self._free(options["name"])
        else:
            self._change(verb, **options)

    def _change(self, verb: str, **options: Any) -> None:
        tenant = self._tenant(options["slug"])
        if options.get("interactive") and not _is_confirmed(tenant.slug):
            raise CommandError("Nothing was deleted.")
        change, _ = CHANGES[verb]
        try:
            with transaction.atomic():
                change(tenant)
                record(tenant, f"{tenant.status.capitalize()}.")
        except Conflict as refusal:
            raise CommandError(str(refusal.detail)) from None
        self.stdout.write(f"{tenant.slug}: {tenant.status}")

    def _free(self, name: str) -> None:
        domain = normalize_host(name if "." in name else domain_of(name))
        with transaction.atomic():
            quarantined = QuarantinedDomain.objects.filter(pk=domain).first()
            if quarantined is None:
                raise CommandError(f"{domain} is not in quarantine.")
            record(quarantined, "Freed.")
            quarantined.delete()
        self.stdout.write(f"{domain}: free")

    def _list(self) -> None:
        for tenant in Tenant.objects.order_by("slug"):
            row = f"{tenant.slug:40} {tenant.status:12} {tenant.get_primary_domain()} {tenant.failure}"
            self.stdout.write(row.rstrip())

    def _tenant(self, slug: str) -> Tenant:
        try:
            return Tenant.objects.get(slug=slug)
        except Tenant.DoesNotExist:
            raise CommandError(f"There is no tenant {slug!r}; `manage.py tenant list` names all.") from None


def _is_confirmed(slug: str) -> bool:
    """Ask whoever is at the terminal."""
    try:
        return input(f"Type {slug} to delete it for good: ") == slug
    except EOFError:
        raise CommandError("Nobody is at a terminal to confirm it: use --noinput.") from None
