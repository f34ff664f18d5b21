"""What a request's headers say of its body, before anything reads it."""

import codecs
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_header_parameters

from config.problems import render

MAX_BYTES = 1024 * 1024
# JSON is UTF-8 (RFC 8259), and ASCII is a part of it.
CHARSETS = ("utf-8", "ascii")


class ReadableBodies:
    """WSGI middleware: gives a chunked body a length, and a Content-Type that nobody can read a name.

    Django takes a body without a length for empty, and raises outside of its error handling for such a type.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """As WSGI has it."""
        if "HTTP_TRANSFER_ENCODING" in environ and environ.get("wsgi.input_terminated"):
            # One byte more than is allowed: BodyMiddleware then sees that it is too much.
            body = environ["wsgi.input"].read(MAX_BYTES + 1)
            environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            del environ["HTTP_TRANSFER_ENCODING"]
        if not _is_readable(environ.get("CONTENT_TYPE", "")):
            environ["CONTENT_TYPE"] = "unreadable"
        return self._application(environ, start_response)


def _is_readable(content_type: str) -> bool:
    try:
        _charset_of(parse_header_parameters(content_type)[1])
    except Exception:  # Python's parser of mails raises many kinds for a malformed parameter
        return False
    return True


def _charset_of(parameters: dict[str, str]) -> str:
    """The name by which Python knows the charset, or as the client wrote it if Python doesn't know it."""
    charset = parameters.get("charset", "utf-8")
    try:
        return codecs.lookup(charset).name
    except LookupError:
        return charset


class BodyMiddleware:
    """Answers 411, 413 or 415 to a body that no view would take, and leaves it unread."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "charset" in (request.content_params or {}):
            # Django would read the query in the body's charset, too.
            request.encoding = "utf-8"
        return _refusal(request) or self.get_response(request)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    if "Transfer-Encoding" in request.headers:
        return render(411, code="length_required", detail="Send the body with a Content-Length.")
    length = _length(request)
    if length == 0:
        return None
    if length > MAX_BYTES:
        return render(413, code="too_large", detail=f"The body is larger than {MAX_BYTES} bytes.")
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        response = render(415, code="unsupported_media_type", detail="Send the body without a Content-Encoding.")
        response.headers["Accept-Encoding"] = "identity"
        return response
    if _charset_of(request.content_params or {}) not in CHARSETS:
        return render(415, code="unsupported_media_type", detail="Send the body in UTF-8.")
    return None


def _length(request: HttpRequest) -> int:
    """In bytes; 0 for a malformed header, as Django has it."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0
