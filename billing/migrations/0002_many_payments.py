"""An invoice may have many payments, one at a time; an order can be cancelled; reminders are counted."""

import django.db.models.deletion
from django.db import migrations, models

# By its name, and not by AlterField, which looks the name up: what looks something up can't be replayed.
DROP_ONE_TO_ONE = "ALTER TABLE billing_payment DROP CONSTRAINT billing_payment_invoice_id_key"
ONE_TO_ONE = "ALTER TABLE billing_payment ADD CONSTRAINT billing_payment_invoice_id_key UNIQUE (invoice_id)"

# An order's jobs so far: what bills it, what charges the card, and the mail about that.
NAME_JOBS = """
    UPDATE billing_payment payment SET job = orders.jobs[2]
    FROM billing_invoice invoice JOIN billing_order orders ON orders.id = invoice.order_id
    WHERE invoice.id = payment.invoice_id
"""
# As often as they were due by default: after 14 days, and each week from then on.
COUNT_REMINDERS = """
    UPDATE billing_invoice SET reminders = least(
        3, greatest(1, floor(extract(epoch FROM reminded_at - created_at - interval '7 days') / 604800))
    )
    WHERE reminded_at IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="invoice",
            name="reminders",
            field=models.PositiveSmallIntegerField(db_default=0, default=0, help_text="How many were written"),
        ),
        migrations.RunSQL(COUNT_REMINDERS, migrations.RunSQL.noop),
        migrations.AddField(
            model_name="payment",
            name="job",
            field=models.UUIDField(help_text="The job that charges the card", null=True),
        ),
        migrations.RunSQL(NAME_JOBS, migrations.RunSQL.noop),
        migrations.AlterModelOptions(name="payment", options={"ordering": ("id",)}),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(DROP_ONE_TO_ONE, ONE_TO_ONE)],
            state_operations=[
                migrations.AlterField(
                    model_name="payment",
                    name="invoice",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payments",
                        to="billing.invoice",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="payment",
            index=models.Index(fields=["invoice"], name="payment_invoice"),
        ),
        migrations.AddConstraint(
            model_name="payment",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status__in", ["pending", "succeeded"])),
                fields=("invoice",),
                name="payment_one_at_a_time",
            ),
        ),
        migrations.AlterField(
            model_name="order",
            name="status",
            field=models.CharField(
                choices=[
                    ("pending", "Pending"),
                    ("paid", "Paid"),
                    ("payment_failed", "Payment Failed"),
                    ("cancelled", "Cancelled"),
                ],
                default="pending",
                max_length=20,
            ),
        ),
        migrations.AlterField(
            model_name="invoice",
            name="status",
            field=models.CharField(
                choices=[
                    ("open", "Open"),
                    ("paid", "Paid"),
                    ("payment_failed", "Payment Failed"),
                    ("cancelled", "Cancelled"),
                ],
                default="open",
                max_length=20,
            ),
        ),
        migrations.AlterField(
            model_name="payment",
            name="status",
            field=models.CharField(
                choices=[
                    ("pending", "Pending"),
                    ("succeeded", "Succeeded"),
                    ("declined", "Declined"),
                    ("abandoned", "Abandoned"),
                ],
                default="pending",
                max_length=20,
            ),
        ),
    ]
