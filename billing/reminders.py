"""Reminders of unpaid invoices."""

from datetime import timedelta

from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from billing.mails import send_reminder
from billing.models import Invoice

REMINDER_INTERVAL = timedelta(days=7)
MAX_REMINDERS = 3
# A job stays within its time limit with so many; the next job takes the rest.
REMINDERS_PER_JOB = 100


def remind_unpaid_invoices() -> int:
    """Write a mail for each invoice that has been unpaid for INVOICE_REMINDER_DAYS, once a week, MAX_REMINDERS in all.

    None goes to a customer who is not active. Takes the oldest REMINDERS_PER_JOB of them. Returns how many there were.
    Needs the caller's transaction.
    """
    invoices = _lock_due_invoices()
    Invoice.objects.filter(pk__in=[invoice.pk for invoice in invoices]).update(
        reminded_at=timezone.now(), reminders=F("reminders") + 1
    )
    for invoice in invoices:
        send_reminder(invoice)
    return len(invoices)


def _lock_due_invoices() -> list[Invoice]:
    now = timezone.now()
    is_old = Q(created_at__lt=now - timedelta(days=settings.INVOICE_REMINDER_DAYS))
    is_not_reminded = Q(reminded_at=None) | Q(reminded_at__lt=now - REMINDER_INTERVAL, reminders__lt=MAX_REMINDERS)
    due = Invoice.objects.exclude(status=Invoice.Status.PAID).exclude(status=Invoice.Status.CANCELLED)
    due = due.filter(is_old, is_not_reminded, order__placed_by__is_active=True)
    # Another transaction pays, cancels or reminds of an invoice that is locked.
    locked = due.select_for_update(skip_locked=True, of=("self",)).select_related("order__placed_by")
    return list(locked.order_by("created_at")[:REMINDERS_PER_JOB])
