from rest_framework import status
from rest_framework.exceptions import APIException, ParseError, Throttled

from limits.rates import Counted
from tenants.errors import Conflict


class BadKey(ParseError):
    default_code = "bad_idempotency_key"
    default_detail = "Idempotency-Key takes 1 to 255 printable ASCII characters, such as a random UUID."


class InProgress(Conflict):
    default_code = "request_in_progress"
    default_detail = "A request with this Idempotency-Key is still running; send it again in a moment."
    wait = 1  # becomes Retry-After


class KeyReused(APIException):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"
    default_detail = "This Idempotency-Key came with another request before; give each request a key of its own."


class TooManyKeys(Throttled):
    """The organisation keeps as many responses as it may, as was `counted`. `wait` becomes Retry-After, in seconds."""

    def __init__(self, wait: int, counted: list[Counted]) -> None:
        super().__init__(wait, "The organisation has used as many Idempotency-Keys as it may.")
        self.counted = counted
