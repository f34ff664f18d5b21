from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('notifications', '0005_limited_messages'),
    ]

    operations = [
        migrations.AddField(
            model_name='message',
            name='by_stranger',
            field=models.BooleanField(db_default=False, default=False, help_text='Asked for without logging in: see notifications/limited.py'),
        ),
    ]
