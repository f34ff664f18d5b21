"""What gunicorn answers by itself, because the application never hears of it: problems like all others."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.http import http_date
from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    InvalidHTTPVersion,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)

from config.codes import REGISTRY
from config.headers import SecurityHeadersMiddleware
from config.problems import render


def answer_to(error: BaseException) -> bytes:
    """The whole response to a request that gunicorn refuses, or fails at. It holds nothing that the client sent."""
    problem = REGISTRY[_code_of(error)]
    response = render(problem.status, code=problem.code, detail=problem.meaning)
    response.headers["Connection"] = "close"
    response.headers["Content-Length"] = str(len(response.content))
    response.headers["Date"] = http_date()
    SecurityHeadersMiddleware(lambda request: response)(_unread_request())
    return f"HTTP/1.1 {problem.status} {response.reason_phrase}\r\n".encode() + bytes(response)


def _code_of(error: BaseException) -> str:
    match error:
        case LimitRequestLine():
            return "uri_too_long"
        case LimitRequestHeaders():
            return "headers_too_large"
        case ExpectationFailed():
            return "expectation_failed"
        case UnsupportedTransferCoding():
            return "unsupported_transfer_coding"
        # Of one that is malformed, it has the text.
        case InvalidHTTPVersion(version=tuple()):
            return "unsupported_version"
        case InvalidResponseHeader() | InvalidResponseHeaderName() | ConfigurationProblem():
            return "server_error"
        case ParseException():
            return "bad_request"
    return "server_error"


def _unread_request() -> HttpRequest:
    """In the place of one that nobody could read. Behind a proxy that ends TLS, it counts as one that came by TLS: a
    browser takes no HSTS from an answer that came without.
    """
    request = HttpRequest()
    if settings.SECURE_PROXY_SSL_HEADER:
        name, value = settings.SECURE_PROXY_SSL_HEADER
        request.META[name] = value
    return request
