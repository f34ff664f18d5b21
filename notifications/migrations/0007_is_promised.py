from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('notifications', '0006_by_stranger'),
    ]

    operations = [
        migrations.AddField(
            model_name='message',
            name='is_promised',
            field=models.BooleanField(db_default=False, default=False, help_text='It has a place among the limited ones: see notifications/limited.py'),
        ),
    ]
