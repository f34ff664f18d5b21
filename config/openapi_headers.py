"""The headers of answers, for the schema."""

from collections.abc import Iterator
from typing import Any

#: As components. Tests compare with them whatever the API answers.
HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {
        "description": "Names this answer. Sent as `If-None-Match`, it gets 304 for as long as nothing has changed",
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "The address of what was made or changed, where it has one",
        "schema": {"type": "string", "format": "uri"},
    },
    "RateLimit": {
        "description": "What is left: for each limit, `r` requests within the next `t` seconds, as "
        "draft-ietf-httpapi-ratelimit-headers-10 has it",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The limits that counted this request: for each of them, `q` requests in `w` seconds",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "After how many seconds to ask again",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "`Bearer`: a token belongs into the header `Authorization`",
        "required": True,
        "schema": {"type": "string"},
    },
}


def with_headers(method: str, status: str, response: dict[str, Any]) -> dict[str, Any]:
    """The response of an operation, with what it may send in headers beside those that it has already."""
    references = {name: {"$ref": f"#/components/headers/{name}"} for name in _names(method, status, response)}
    return {**response, "headers": {**response.get("headers", {}), **references}}


def _names(method: str, status: str, response: dict[str, Any]) -> Iterator[str]:
    yield from ("RateLimit", "RateLimit-Policy")  # of whatever limits counted the request
    match status:
        case "200" if method == "GET":
            yield "ETag"
        case "201" | "202":
            yield "Location"
        case "304":
            yield "ETag"
        case "401":
            yield "WWW-Authenticate"
        case "429" | "503":
            yield "Retry-After"
        case "409" if "`request_in_progress`" in response["description"]:
            yield "Retry-After"
