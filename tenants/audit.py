"""The records of what staff do. They are entries of the admin's own log, and commands leave them, too.

Each is a line of the log as well, whoever saves it.
"""

import logging
from functools import partial
from typing import Any

from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_save
from django.dispatch import receiver

logger = logging.getLogger("tenantry.records")

#: The account that stands for the command line in records. It can't log in, and has no rights.
COMMAND_LINE = "command-line@tenantry.invalid"


def record(changed: Model, message: str, *, user: Any = None) -> None:
    """Record what was done to an object, by a member of staff or, without `user`, by a command.

    Call it in the transaction of the change. Needs the public schema.
    """
    actor = user or _command_line()
    LogEntry.objects.log_actions(actor.pk, [changed], CHANGE, message, single_object=True)


@receiver(post_save, sender=LogEntry, dispatch_uid="tenants.log_record")
def log_record(instance: LogEntry, created: bool, **kwargs: Any) -> None:
    """Write a record to the log once it is committed. `bulk_create` sends no signal: save records one by one."""
    if not created:
        return
    kind = instance.content_type.name if instance.content_type else "object"
    told = {
        "account": str(instance.user),
        "object": f"{kind} {instance.object_repr}",
        "change": "Deleted." if instance.action_flag == DELETION else instance.get_change_message(),
    }
    transaction.on_commit(partial(logger.info, "recorded", extra=told))


def _command_line() -> Any:
    defaults = {"full_name": "Command line", "is_active": False, "password": make_password(None)}
    actor, _ = get_user_model().objects.get_or_create(email=COMMAND_LINE, defaults=defaults)
    return actor
