from typing import Any

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

from billing import services
from billing.gateways import GatewayUnavailable


@shared_task
def bill_order(order_id: str) -> dict[str, str]:
    return services.bill_order(order_id=order_id)


# Tried for some hours. When that is in vain the job is dead, and a replay goes on with the same idempotency key.
@shared_task(
    bind=True,
    atomic=False,
    autoretry_for=(GatewayUnavailable, SoftTimeLimitExceeded),
    retry_backoff=1,
    retry_backoff_max=600,
    max_retries=30,
)
def charge_payment(self: Any, payment_id: str) -> None:
    charge = services.request_charge(payment_id=payment_id)
    with self.completion() as done:
        done.result = services.settle_payment(payment_id=payment_id, charge=charge)


@shared_task
def remind_unpaid_invoices() -> int:
    return services.remind_unpaid_invoices()


@shared_task
def remind_all_tenants() -> int:
    return services.remind_all_tenants()
