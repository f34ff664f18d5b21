from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    operations = [
        migrations.CreateModel("Row", [("home", models.CharField(max_length=63, primary_key=True))]),
        migrations.CreateModel(
            "Note",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("text", models.CharField(max_length=200)),
            ],
        ),
        # Counts bodies. Not logged, as counting is no part of the work.
        migrations.RunSQL("CREATE UNLOGGED SEQUENCE IF NOT EXISTS public.work_count", migrations.RunSQL.noop),
    ]
