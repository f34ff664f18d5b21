"""`manage.py runserver`, whose server runs in a thread of its own."""

from typing import Any

from django.contrib.staticfiles.management.commands.runserver import Command as RunServer

from tenants.binding import bind_to_public


class Command(RunServer):
    """Django's, which looks for migrations in `public` before it serves."""

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Called by Django in the thread of the server."""
        bind_to_public()
        super().inner_run(*args, **options)
