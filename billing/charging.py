"""The charge of a payment, in two steps: the call of the gateway outside of a transaction, its outcome inside one."""

from django.utils import timezone

from billing.gateways import Charge, ChargeRequest, payment_gateway
from billing.mails import send_payment_failure, send_receipt
from billing.models import Invoice, Order, Payment
from tenants.services import current_tenant


def find_payment(*, payment_id: str) -> Payment:
    """The payment, with all that its charge needs."""
    return Payment.objects.select_related("invoice__order").get(pk=payment_id)


def request_charge(payment: Payment) -> Charge:
    """Have the gateway charge a payment, with its id as idempotency key. Call it outside of a transaction.

    A settled payment keeps its outcome, and the gateway is not called. Raises GatewayUnavailable when another try may
    help: the payment stays pending until the outcome is known. Raises GatewayError when no try will help.
    """
    if payment.status != Payment.Status.PENDING:
        succeeded = payment.status == Payment.Status.SUCCEEDED
        return Charge(id=payment.charge_id, succeeded=succeeded, reason=payment.reason)
    return payment_gateway().charge(
        ChargeRequest(
            idempotency_key=str(payment.pk),
            amount=payment.amount,
            currency=payment.currency,
            token=payment.invoice.order.payment_token,
            reference=payment.invoice.number,
            tenant=current_tenant().slug,
        )
    )


def settle_payment(*, payment_id: str, charge: Charge) -> dict[str, str]:
    """Turn payment, invoice and order to the outcome of the charge, and write the mail about it.

    Once: a repeated call changes nothing. Needs the caller's transaction.
    """
    Order.objects.lock(invoice__payments__pk=payment_id)
    status = Payment.Status.SUCCEEDED if charge.succeeded else Payment.Status.DECLINED
    is_first_call = Payment.objects.filter(pk=payment_id, status=Payment.Status.PENDING).update(
        status=status, charge_id=charge.id, reason=charge.reason, settled_at=timezone.now()
    )
    if is_first_call:
        invoice = Invoice.objects.select_related("order__placed_by").get(payments__pk=payment_id)
        if charge.succeeded:
            _record_success(invoice)
        else:
            _record_failure(invoice, reason=charge.reason)
    return {"payment": payment_id, "charge": charge.id, "status": status}


def _record_success(invoice: Invoice) -> None:
    Invoice.objects.filter(pk=invoice.pk).update(status=Invoice.Status.PAID, paid_at=timezone.now())
    Order.objects.filter(pk=invoice.order_id).update(status=Order.Status.PAID, payment_token="")
    invoice.order.add_job(send_receipt(invoice))


def _record_failure(invoice: Invoice, *, reason: str) -> None:
    Invoice.objects.filter(pk=invoice.pk).update(status=Invoice.Status.PAYMENT_FAILED)
    Order.objects.filter(pk=invoice.order_id).update(status=Order.Status.PAYMENT_FAILED, payment_token="")
    invoice.order.add_job(send_payment_failure(invoice, reason=reason))
