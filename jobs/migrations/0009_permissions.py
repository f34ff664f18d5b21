from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0008_dispatch_to_each_tenant'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='job',
            options={'permissions': (('replay_job', 'Can run dead job again'), ('discard_job', 'Can discard dead job'), ('cancel_job', 'Can cancel job'))},
        ),
    ]
