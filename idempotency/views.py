"""`@idempotent`, for the method of a view that answers a POST."""

import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from idempotency.errors import BadKey, TooManyKeys
from idempotency.services import REPLAYED, respond_once
from limits.rates import tell

KEY = re.compile(r"[\x20-\x7e]{1,255}")
PARAMETERS = [
    OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        OpenApiParameter.HEADER,
        description=f"A name for this request, such as a random UUID. For {settings.IDEMPOTENCY_KEY_HOURS} hours, the "
        "same request with the same key gets the first response again and has no second effect; 409 while the first "
        "still runs. Another request with it gets 422. Passwords are not compared, and of a sign-up only "
        "slug and name.",
    ),
    OpenApiParameter(
        REPLAYED,
        OpenApiTypes.BOOL,
        OpenApiParameter.HEADER,
        response=True,
        description="This is the first response again.",
    ),
]

#: Fields of a body, at any depth, that are no part of the request: whoever knows its key could try them on it.
SECRETS = frozenset({"password"})

Action = Callable[..., Response]


def by_user(request: Request) -> str | None:
    return str(request.user.pk)


def without_secrets(body: Any) -> Any:
    """The body but for its SECRETS."""
    return json.loads(json.dumps(body), object_hook=_without_secrets)


def _without_secrets(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in SECRETS}


def idempotent(
    *, owner: Callable[[Request], str | None] = by_user, known_by: Callable[[Any], Any] = without_secrets
) -> Callable[[Action], Action]:
    """Let a client name each request by an `Idempotency-Key`, and send it again without a second effect.

    `owner` says whose key it is, in the schema that is active; None for a request that will be refused anyway.
    `known_by` says what of a body makes it the same request: nothing that may not be guessed by whoever has the key.
    The response is stored, so it must hold no secret: one that says `Cache-Control: no-store` is refused.
    """

    def decorate(action: Action) -> Action:
        @extend_schema(parameters=PARAMETERS)
        @wraps(action)
        def once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
            def respond() -> Response:
                return action(view, request, *args, **kwargs)

            key = _key(request)
            if key is None or (whose := owner(request)) is None:
                return respond()
            # The whole body is what the release before this one took; the next one needs it no more.
            bodies = (known_by(request.data), request.data)
            keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
            prints = [fingerprint(request.path, body, secret) for body in bodies for secret in keys]
            try:
                return respond_once(owner=whose, key=key, fingerprint=prints[0], older=prints[1:], respond=respond)
            except TooManyKeys as refusal:
                tell(request, refusal.counted)
                raise

        return once

    return decorate


def _key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise BadKey
    return key


def fingerprint(path: str, body: Any, secret: str) -> str:
    """Of address and body, however the body is spelt. Keyed, so that nobody can try bodies on what is stored."""
    canonical = json.dumps([path, body], sort_keys=True)
    return salted_hmac("idempotency", canonical, secret, algorithm="sha256").hexdigest()
