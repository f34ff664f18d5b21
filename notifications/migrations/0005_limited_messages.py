from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('notifications', '0004_normalize_to'),
    ]

    operations = [
        migrations.AddField(
            model_name='message',
            name='secret_name',
            field=models.CharField(blank=True, db_default='', default='', help_text='What the placeholder in its texts stands for', max_length=100),
        ),
        migrations.AddField(
            model_name='message',
            name='is_limited',
            field=models.BooleanField(db_default=False, default=False, help_text='The text is a fixed one, and few of these go: see UNCONFIRMED_MAILS'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('is_limited', True)), fields=['created_at'], name='message_limited'),
        ),
    ]
