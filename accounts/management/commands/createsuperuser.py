"""`manage.py createsuperuser`, for the platform's staff."""

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.db import transaction
from django.db.models.signals import post_save

from accounts.models import User
from accounts.second_factor import describe, renew_second_factor
from tenants.audit import record


class Command(createsuperuser.Command):
    """Django's, which says that an e-mail is taken instead of ending in a traceback, and prints a second factor."""

    # The constraint user_email_unique makes e-mails unique in any case. Django knows constraints on plain columns only.
    username_is_unique = True

    def handle(self, *args: Any, **options: Any) -> None:
        """As Django's. Then the second factor of the new user, on standard output, once."""
        created: list[User] = []

        def remember(instance: User, **kwargs: Any) -> None:
            created.append(instance)

        # Django's command does not return the user.
        post_save.connect(remember, sender=User)
        try:
            super().handle(*args, **options)
        finally:
            post_save.disconnect(remember, sender=User)
        for user in created:
            with transaction.atomic():
                factor = renew_second_factor(user)
                record(user, "Created as a superuser.")
            self.stdout.write(describe(factor))
