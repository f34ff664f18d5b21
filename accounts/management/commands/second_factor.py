"""`manage.py second_factor`: a new second factor for a member of the platform's staff."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.db import transaction

from accounts.models import User
from accounts.second_factor import describe, renew_second_factor
from tenants.audit import record


class Command(BaseCommand):
    """Print it once. The old one ends, and so do sessions that began with it."""

    help = "Give a member of staff a new second factor, in place of the old one, and print it once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        user = User.objects.with_email(email).filter(is_staff=True).first()
        if user is None:
            raise CommandError(f"No member of staff has the e-mail {email!r}.")
        with transaction.atomic():
            factor = renew_second_factor(user)
            record(user, "Got a new second factor.")
        self.stdout.write(describe(factor))
