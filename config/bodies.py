"""Bodies that Django can read, made before it sees them: this module is imported before Django is set up."""

import codecs
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from django.utils.http import parse_header_parameters

MAX_BYTES = 1024 * 1024
# JSON is UTF-8 (RFC 8259), and ASCII is a part of it.
CHARSETS = ("utf-8", "ascii")
# Takes the place of a type whose charset is another, or that can't be parsed. RefusalMiddleware refuses it.
UNREADABLE = "application/octet-stream; charset=unreadable"
# In the environment of a request whose body did not come in time. RefusalMiddleware refuses it.
IS_LATE = "tenantry.body_is_late"


class ReadableBodies:
    """WSGI middleware: gives a chunked body a length, and takes away a Content-Type that Django can't read.

    Django takes a body without a length for empty. It reads the query in the body's charset, whatever that is, and what
    it raises then nothing handles.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """As WSGI has it."""
        # Of other codings RefusalMiddleware hears: the server has taken away none but this.
        is_chunked = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower() == "chunked"
        if is_chunked and environ.get("wsgi.input_terminated"):
            # One byte more than is allowed: RefusalMiddleware then sees that it is too much.
            body = environ["wsgi.input"].read(MAX_BYTES + 1)
            environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            del environ["HTTP_TRANSFER_ENCODING"]
        if not _is_readable(environ.get("CONTENT_TYPE", "")):
            environ["CONTENT_TYPE"] = UNREADABLE
        return self._application(environ, start_response)


def _is_readable(content_type: str) -> bool:
    try:
        return charset_of(parse_header_parameters(content_type)[1]) in CHARSETS
    except Exception:  # Python's parser of mails raises many kinds for a malformed parameter
        return False


def charset_of(parameters: dict[str, str]) -> str:
    """The name by which Python knows the charset, or as the client wrote it if Python doesn't know it."""
    charset = parameters.get("charset", "utf-8")
    try:
        return codecs.lookup(charset).name
    except LookupError:
        return charset
