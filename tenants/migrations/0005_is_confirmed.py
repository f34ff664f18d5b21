from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0004_normalize_email'),
    ]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='is_confirmed',
            field=models.BooleanField(db_default=True, default=True, editable=False, help_text='Whether an owner has confirmed their address: until then it goes after UNCONFIRMED_DAYS'),
        ),
        # Nothing reads it any more, and the code of the release before writes it.
        migrations.AlterField(
            model_name='signup',
            name='login_url',
            field=models.URLField(blank=True, default='', editable=False),
        ),
    ]
