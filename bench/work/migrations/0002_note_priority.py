from django.db import migrations, models


class Migration(migrations.Migration):
    """What `migrate-tenants` times."""

    dependencies = [("work", "0001_initial")]

    operations = [
        migrations.AddField("Note", "priority", models.IntegerField(null=True)),
        migrations.AddIndex("Note", models.Index(fields=["priority"], name="note_priority")),
    ]
