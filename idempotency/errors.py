from rest_framework import status
from rest_framework.exceptions import APIException, ParseError

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
