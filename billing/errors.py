from tenants.errors import Conflict


class OrderPaid(Conflict):
    default_code = "order_paid"
    default_detail = "The order is paid already."


class OrderCancelled(Conflict):
    default_code = "order_cancelled"
    default_detail = "The order was cancelled; place a new one."


class PaymentInProgress(Conflict):
    default_code = "payment_in_progress"
    default_detail = "A card is being charged for this order; wait until the last of its `jobs` has ended."


class PaymentUnsettled(Conflict):
    default_code = "payment_unsettled"
    default_detail = (
        "Nobody knows yet whether a card was charged for this order, because the job that did it is dead. Let it run "
        "again, `POST /api/v1/jobs/{id}/retry/`: it asks the gateway with the same idempotency key."
    )


class TooManyPayments(Conflict):
    default_code = "too_many_payments"
    default_detail = "Too many cards were tried for this order; place a new one."
