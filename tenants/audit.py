"""The records of what staff do. They are entries of the admin's own log, and commands leave them, too."""

import logging
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db.models import Model

logger = logging.getLogger(__name__)

#: The account that stands for the command line in records. It can't log in, and has no rights.
COMMAND_LINE = "command-line@tenantry.invalid"


def record(changed: Model, message: str, *, user: Any = None) -> None:
    """Record what was done to an object, by a member of staff or, without `user`, by a command.

    Call it in the transaction of the change. Needs the public schema.
    """
    actor = user or _command_line()
    LogEntry.objects.log_actions(actor.pk, [changed], CHANGE, message, single_object=True)
    logger.info("%s %s: %s (by %s)", changed._meta.verbose_name, changed, message, actor)


def _command_line() -> Any:
    defaults = {"full_name": "Command line", "is_active": False, "password": make_password(None)}
    actor, _ = get_user_model().objects.get_or_create(email=COMMAND_LINE, defaults=defaults)
    return actor
