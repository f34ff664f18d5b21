"""The way out to the provider of card payments (PAYMENT_GATEWAY), and its errors in two kinds."""

import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import httpx
from django.conf import settings
from django.utils.module_loading import import_string

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChargeRequest:
    """`amount` is in the currency's minor unit; `token` is the card, in the provider's words."""

    idempotency_key: str
    amount: int
    currency: str
    token: str = field(repr=False)
    reference: str
    tenant: str


@dataclass(frozen=True)
class Charge:
    """What came of a charge: the gateway's id for it, and why a card was declined."""

    id: str
    succeeded: bool
    reason: str = ""


class GatewayUnavailable(Exception):
    """No answer, or none to trust: the charge may have been made or not. Try again, with the same idempotency key."""


class GatewayError(Exception):
    """An answer that another try won't change, and that no card holder can help with."""


class Gateway(Protocol):
    """What PAYMENT_GATEWAY names."""

    def charge(self, request: ChargeRequest) -> Charge:
        """Charge the card once for this idempotency key, however often it is called; the same answer each time.

        Raises GatewayUnavailable or GatewayError.
        """


def payment_gateway() -> Gateway:
    """The gateway that PAYMENT_GATEWAY names."""
    gateway: Gateway = import_string(settings.PAYMENT_GATEWAY)()
    return gateway


class HttpCardGateway:
    """`POST {CARD_GATEWAY_URL}/charges`: 201 charged, 402 declined, 422 no such card."""

    def charge(self, request: ChargeRequest) -> Charge:
        response = self._post(request)
        status = response.status_code
        if status == HTTPStatus.CREATED:
            return _charge(response, succeeded=True)
        if status in (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.UNPROCESSABLE_ENTITY):
            return _charge(response, succeeded=False)
        if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
            raise GatewayUnavailable(f"The card gateway answered {status}")
        if status == HTTPStatus.CONFLICT:
            raise GatewayError(f"The gateway knows payment {request.idempotency_key} with other details; look there")
        raise GatewayError(f"The card gateway answered {status}: check CARD_GATEWAY_URL")

    def _post(self, request: ChargeRequest) -> httpx.Response:
        try:
            return httpx.post(
                f"{settings.CARD_GATEWAY_URL}/charges",
                headers={"Idempotency-Key": request.idempotency_key},
                json={name: getattr(request, name) for name in ("amount", "currency", "token", "reference", "tenant")},
                timeout=settings.CARD_GATEWAY_TIMEOUT,
            )
        except httpx.TransportError as error:
            # The tenant reads this, and the operator the log: what the network says names hosts.
            logger.warning("No answer from the card gateway; check CARD_GATEWAY_URL if this stays: %r", error)
            raise GatewayUnavailable(f"No answer from the card gateway ({type(error).__name__})") from error


def _charge(response: httpx.Response, *, succeeded: bool) -> Charge:
    try:
        answer: dict[str, Any] = response.json()
        return Charge(id=_text(answer, "id"), succeeded=succeeded, reason=_text(answer, "reason"))
    except (ValueError, AttributeError) as error:
        raise GatewayUnavailable(f"The card gateway answered {response.status_code} without a JSON object") from error


def _text(answer: dict[str, Any], name: str) -> str:
    """Somebody else's words, fit for a column."""
    return str(answer.get(name) or "").replace("\0", "")[:200]
