from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string


@register
def check_payment_gateway(**kwargs: Any) -> list[CheckMessage]:
    try:
        gateway = import_string(settings.PAYMENT_GATEWAY)
    except ImportError as error:
        return [Error(f"PAYMENT_GATEWAY can't be imported: {error}", hint=HINT, id="billing.E001")]
    if not callable(getattr(gateway, "charge", None)):
        return [Error(f"PAYMENT_GATEWAY {settings.PAYMENT_GATEWAY} has no charge()", hint=HINT, id="billing.E002")]
    return []


HINT = "Name a class that fulfils billing.gateways.Gateway, such as billing.gateways.HttpCardGateway."


@register
def check_gateway_timeout(**kwargs: Any) -> list[CheckMessage]:
    if settings.CARD_GATEWAY_TIMEOUT < settings.CELERY_TASK_SOFT_TIME_LIMIT:
        return []
    return [
        Error(
            "CARD_GATEWAY_TIMEOUT is not below CELERY_TASK_SOFT_TIME_LIMIT: a job would end before its call does",
            hint="Lower CARD_GATEWAY_TIMEOUT (the default is 5 s), or raise JOB_SOFT_TIME_LIMIT.",
            id="billing.E003",
        )
    ]
