"""Addresses of users in the one form of tenants/text.py. Accounts that would collide stay as they are, and are reported."""

import logging

from django.core.exceptions import ValidationError
from django.db import migrations

from tenants.text import normalize_email, possibly_unnormalized

logger = logging.getLogger("tenantry.migrations")


def normalize(apps, schema_editor):
    schema = schema_editor.connection.schema_name
    users = apps.get_model("accounts", "User").objects
    # Of several accounts with one mailbox, the oldest gets the normal form.
    for user in users.filter(possibly_unnormalized("email")).order_by("pk"):
        try:
            email = normalize_email(user.email)
        except ValidationError:
            logger.warning("%s: %r, the address of user %s, is none: change it", schema, user.email, user.pk)
            continue
        other = users.exclude(pk=user.pk).filter(email__iexact=email).first()
        if other is not None:
            logger.warning(
                "%s: users %s (%s) and %s (%s) share a mailbox: change the address of one, or deactivate it",
                schema, other.pk, other.email, user.pk, user.email,
            )
        elif email != user.email:
            users.filter(pk=user.pk).update(email=email)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_updated_at")]
    operations = [migrations.RunPython(normalize, migrations.RunPython.noop)]
