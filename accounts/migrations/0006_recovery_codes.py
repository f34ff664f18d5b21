"""Recovery codes that are stored as they are become digests, and serve as before. They are in the public schema."""

from django.db import migrations
from django.db.models.functions import Length

from accounts.second_factor import DIGEST_LENGTH, digest_code


def digest(apps, schema_editor):
    if schema_editor.connection.schema_name != "public":
        return
    tokens = apps.get_model("otp_static", "StaticToken").objects
    for token in tokens.annotate(length=Length("token")).filter(length__lt=DIGEST_LENGTH):
        tokens.filter(pk=token.pk).update(token=digest_code(token.token))


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_grant_rights"), ("otp_static", "0003_add_timestamps")]
    operations = [migrations.RunPython(digest, migrations.RunPython.noop)]
