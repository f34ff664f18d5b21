"""Reminders of unpaid invoices."""

from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from billing.mails import send_reminder
from billing.models import Invoice

REMINDER_INTERVAL = timedelta(days=7)
# A job stays within its time limit with so many; the next job takes the rest.
REMINDERS_PER_JOB = 100


def remind_unpaid_invoices() -> int:
    """Write a mail for each invoice that has been unpaid for INVOICE_REMINDER_DAYS, at most one a week.

    Takes the oldest REMINDERS_PER_JOB of them. Returns how many there were. Needs the caller's transaction.
    """
    invoices = _lock_due_invoices()
    Invoice.objects.filter(pk__in=[invoice.pk for invoice in invoices]).update(reminded_at=timezone.now())
    for invoice in invoices:
        send_reminder(invoice)
    return len(invoices)


def _lock_due_invoices() -> list[Invoice]:
    now = timezone.now()
    is_old = Q(created_at__lt=now - timedelta(days=settings.INVOICE_REMINDER_DAYS))
    is_not_reminded = Q(reminded_at=None) | Q(reminded_at__lt=now - REMINDER_INTERVAL)
    due = Invoice.objects.exclude(status=Invoice.Status.PAID).filter(is_old, is_not_reminded)
    # Another transaction pays or reminds of an invoice that is locked.
    locked = due.select_for_update(skip_locked=True, of=("self",)).select_related("order__placed_by")
    return list(locked.order_by("created_at")[:REMINDERS_PER_JOB])
