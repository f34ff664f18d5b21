"""`manage.py createsuperuser`, for the platform's staff."""

from django.contrib.auth.management.commands import createsuperuser


class Command(createsuperuser.Command):
    """Django's, which says that an e-mail is taken instead of ending in a traceback."""

    # The constraint user_email_unique makes e-mails unique in any case. Django knows constraints on plain columns only.
    username_is_unique = True
