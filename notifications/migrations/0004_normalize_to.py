"""The recipients of messages in the one form of tenants/text.py, which their users' addresses have, too."""

from django.core.exceptions import ValidationError
from django.db import migrations

from tenants.text import normalize_email, possibly_unnormalized


def normalize(apps, schema_editor):
    messages = apps.get_model("notifications", "Message").objects
    written = messages.filter(possibly_unnormalized("to")).order_by().values_list("to", flat=True).distinct()
    for to in list(written):
        try:
            messages.filter(to=to).update(to=normalize_email(to))
        except ValidationError:
            continue  # it was sent, or refused, as it stands


class Migration(migrations.Migration):
    dependencies = [("notifications", "0003_updated_at")]
    operations = [migrations.RunPython(normalize, migrations.RunPython.noop)]
