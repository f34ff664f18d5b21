"""What a request's headers say of its body, before anything reads it; and words for refusals that have none."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse

from config.bodies import CHARSETS, IS_LATE, MAX_BYTES, charset_of
from config.codes import REGISTRY
from config.problems import MEDIA_TYPE, render

REFUSALS = {status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}
# Python's own name of it depends on the version.
RANGE_NOT_SATISFIABLE = 416


class RefusalMiddleware:
    """Answers 408, 411, 413 or 415 to a body that no view would take, and leaves it unread.

    A refusal without a body, of whatever middleware or view of a library, becomes the problem of its status.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # A quoted cookie may hold any character. Sessions are looked up by theirs, and PostgreSQL takes no NUL.
        request.COOKIES = {name: value for name, value in request.COOKIES.items() if value.isprintable()}
        return _refusal(request) or _in_words(self.get_response(request))


def _refusal(request: HttpRequest) -> HttpResponse | None:
    if IS_LATE in request.META:
        return render(408, code="request_timeout", detail="The body did not come in time.")
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
    if charset_of(request.content_params or {}) not in CHARSETS:
        return render(415, code="unsupported_media_type", detail="Send the body in UTF-8, and name no other charset.")
    return None


def _length(request: HttpRequest) -> int:
    """In bytes; 0 for a malformed header, as Django has it."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _in_words(response: Any) -> HttpResponse:
    if response.status_code in REFUSALS and _is_empty(response):
        content = _problem_of(response.status_code).content
        if response.streaming:
            response.streaming_content = [content]
        else:
            response.content = content
        response.headers["Content-Type"] = MEDIA_TYPE
        response.headers["Content-Length"] = str(len(content))
    answer: HttpResponse = response
    return answer


def _is_empty(response: Any) -> bool:
    """A stream is not looked into: WhiteNoise streams nothing, of no type."""
    return "Content-Type" not in response.headers if response.streaming else not response.content


def _problem_of(status: int) -> HttpResponse:
    named = HTTPStatus(status)
    code = "range_not_satisfiable" if status == RANGE_NOT_SATISFIABLE else named.name.lower()
    return render(status, code=code, detail=REGISTRY[code].meaning if code in REGISTRY else named.phrase)
