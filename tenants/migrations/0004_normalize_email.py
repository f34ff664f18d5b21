"""The addresses of sign-ups that wait for their tenant, in the one form of tenants/text.py."""

from django.core.exceptions import ValidationError
from django.db import migrations

from tenants.text import normalize_email, possibly_unnormalized


def normalize(apps, schema_editor):
    for signing_up in apps.get_model("tenants", "SignUp").objects.filter(possibly_unnormalized("email")):
        try:
            signing_up.email = normalize_email(signing_up.email)
        except ValidationError:
            continue  # its owner changes the address
        signing_up.save(update_fields=["email"])


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_set_updated_at")]
    operations = [migrations.RunPython(normalize, migrations.RunPython.noop)]
