"""A context of its own for each request, so that nothing that a request sets there reaches the next one."""

from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

from django.conf import settings

from tenants.context import copy_clean_context
from tenants.postgresql.silence import patience
from tenants.session import end_owner, start_owner

# Seconds that an answer may be on its way
MARGIN = 2


class OwnContext:
    """WSGI middleware. The response is iterated and closed in the request's context, too.

    A request's statements, and their waits for locks, last for REQUEST_STATEMENT_SECONDS and REQUEST_LOCK_SECONDS at
    the most, unless it sets another limit. A server that says nothing for MARGIN longer is given up: who sets a longer
    limit sets tenants.postgresql.silence.patience, too.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._limits = (
            b"SET statement_timeout = %d" % round(1000 * settings.REQUEST_STATEMENT_SECONDS),
            b"SET lock_timeout = %d" % round(1000 * settings.REQUEST_LOCK_SECONDS),
        )
        self._patience = settings.REQUEST_STATEMENT_SECONDS + MARGIN if settings.REQUEST_STATEMENT_SECONDS else None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> "Response":
        """As WSGI has it."""
        context = copy_clean_context()
        context.run(patience.set, self._patience)
        # Before Django's own handlers, which would close what another request has left open, and keep it open.
        context.run(start_owner, self._limits)
        try:
            response = context.run(self._application, environ, start_response)
        except BaseException:
            context.run(end_owner)  # Django says so only of a request with a response
            raise
        return Response(context, response)


class Response:
    """A response in its request's context."""

    def __init__(self, context: Context, response: Iterable[bytes]) -> None:
        self._context = context
        self._response = response
        try:
            # In the context: here Django reads an asynchronous stream, to its end.
            self._chunks = context.run(iter, response)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> "Response":
        return self

    def __next__(self) -> bytes:
        return self._context.run(next, self._chunks)

    def close(self) -> None:
        """Close the response, with which the request ends."""
        try:
            close = getattr(self._response, "close", None)
            if close is not None:
                self._context.run(close)
        finally:
            self._context.run(end_owner)
