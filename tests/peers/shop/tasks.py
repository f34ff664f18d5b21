from smtplib import SMTPException

import httpx
from celery import shared_task
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from tests.peers.shop import services

# Celery's advice for errors that pass.
RETRIES = {"retry_backoff": 1, "retry_backoff_max": 600, "max_retries": 30, "default_retry_delay": 1}
DATABASE_ERRORS = (OperationalError, InterfaceError) if settings.RETRY_DATABASE_ERRORS else ()


@shared_task(autoretry_for=DATABASE_ERRORS, **RETRIES)
def bill_order(order_id: str) -> None:
    services.bill_order(order_id=order_id)


@shared_task(autoretry_for=(httpx.TransportError, *DATABASE_ERRORS), **RETRIES)
def charge_payment(payment_id: str) -> None:
    services.charge_payment(payment_id=payment_id)


@shared_task(autoretry_for=(OSError, SMTPException, *DATABASE_ERRORS), **RETRIES)
def send_receipt(order_id: str) -> None:
    services.send_receipt(order_id=order_id)


# To measure with.


@shared_task
def select_one() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


@shared_task
def nothing() -> None:
    pass
