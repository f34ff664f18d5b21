import accounts.models
import django.db.models.deletion
import tenants.ids
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_normalize_email'),
    ]

    operations = [
        migrations.AddField(
            model_name='user',
            name='is_confirmed',
            field=models.BooleanField(db_default=True, default=True, editable=False, help_text='Whether the address was proved to be theirs'),
        ),
        migrations.CreateModel(
            name='Link',
            fields=[
                ('id', models.UUIDField(default=tenants.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('purpose', models.CharField(choices=[('confirm_address', 'Confirm Address'), ('set_password', 'Set Password')], max_length=20)),
                ('email', models.EmailField(help_text="Where it was sent: it dies when the user's address is another", max_length=254)),
                ('nonce', models.CharField(default=accounts.models.new_nonce, max_length=32)),
                ('expires_at', models.DateTimeField()),
                ('user', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='links', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('user', 'purpose'), name='link_newest')],
            },
        ),
    ]
