from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0005_is_confirmed'),
    ]

    operations = [
        migrations.CreateModel(
            name='QuarantinedDomain',
            fields=[
                ('domain', models.CharField(max_length=253, primary_key=True, serialize=False)),
                ('until', models.DateTimeField()),
            ],
            options={
                'verbose_name': 'domain in quarantine',
                'verbose_name_plural': 'domains in quarantine',
            },
        ),
        migrations.AlterModelOptions(
            name='tenant',
            options={'permissions': (('suspend_tenant', 'Can suspend and resume tenant'),)},
        ),
    ]
