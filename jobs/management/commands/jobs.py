"""`manage.py jobs`: what people do to durable jobs, from a terminal."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models import QuerySet

from jobs import endings
from jobs.models import Job
from tenants.audit import record

CHANGES: dict[str, tuple[Callable[[Job], bool], str, str]] = {
    "retry": (endings.replay, "let a dead job run again, with all its tries", "is not dead"),
    "discard": (endings.discard, "remove a dead job; its failure stays in its tenant's results", "is not dead"),
    "cancel": (endings.cancel, "end a job that has not begun", "has begun, or is dead"),
}


class Command(BaseCommand):
    """`list`, `show`, `retry`, `discard` and `cancel`."""

    help = "List and inspect durable jobs; run dead ones again, discard them, cancel what has not begun."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="id, tenant, task, attempts and error, newest first")
        listing.add_argument("--state", choices=Job.State.values, default=Job.State.DEAD)
        listing.add_argument("--tenant", metavar="SLUG")
        listing.add_argument("--limit", type=int, default=50)
        verbs.add_parser("show", help="all of one job").add_argument("id", type=UUID)
        for verb, (_, explanation, _) in CHANGES.items():
            of_verb = verbs.add_parser(verb, help=explanation)
            of_verb.add_argument("id", type=UUID, nargs="?")
            if verb != "cancel":
                of_verb.add_argument("--all", action="store_true", help="every dead job")
                of_verb.add_argument("--tenant", metavar="SLUG", help="with --all: of this tenant")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "list":
            self._list(**options)
        elif verb == "show":
            self._show(self._job(options["id"]))
        elif options.get("all"):
            self._change_all(verb, _of(Job.objects.filter(state=Job.State.DEAD), options["tenant"]))
        else:
            self._change(verb, options["id"])

    def _list(self, *, state: str, tenant: str | None, limit: int, **options: Any) -> None:
        for job in _of(Job.objects.filter(state=state), tenant).select_related("tenant").order_by("-seq")[:limit]:
            slug = job.tenant.slug if job.tenant else "public"
            self.stdout.write(f"{job.id}  {slug:20} {job.task:40} {job.attempt:3}  {job.error}".rstrip())

    def _show(self, job: Job) -> None:
        for field in Job._meta.concrete_fields:
            self.stdout.write(f"{field.name:14} {getattr(job, field.attname)}".rstrip())

    def _change_all(self, verb: str, jobs: QuerySet[Job]) -> None:
        changed = sum(_change_and_record(verb, job) for job in jobs.order_by("id").iterator())
        self.stdout.write(f"{verb}: {changed} jobs")

    def _change(self, verb: str, job_id: UUID | None) -> None:
        if job_id is None:
            raise CommandError(f"Give the id of a job, or --all: manage.py jobs {verb} ID")
        _, _, refusal = CHANGES[verb]
        if not _change_and_record(verb, self._job(job_id)):
            raise CommandError(f"Job {job_id} {refusal}.")
        self.stdout.write(f"{verb}: {job_id}")

    def _job(self, job_id: UUID) -> Job:
        try:
            return Job.objects.get(pk=job_id)
        except Job.DoesNotExist:
            raise CommandError(
                f"There is no job {job_id}; it may have ended. `manage.py jobs list` names dead ones."
            ) from None


def _change_and_record(verb: str, job: Job) -> bool:
    change, _, _ = CHANGES[verb]
    with transaction.atomic():
        changed = change(job)
        if changed:
            record(job, f"{verb.capitalize()}.")
    return changed


def _of(jobs: QuerySet[Job], tenant: str | None) -> QuerySet[Job]:
    return jobs.filter(tenant__slug=tenant) if tenant else jobs
