from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0004_confirmed_addresses'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='user',
            options={'permissions': (('grant_rights', 'Can make user staff, and give rights'),)},
        ),
    ]
