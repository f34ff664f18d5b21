"""What web answers to a request that the application never hears of is a problem like all others."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from gunicorn.http import errors

from config.codes import REGISTRY
from config.headers import SECURITY
from config.problems import problem
from config.server_refusals import answer_to
from tests.web import Answer, answer_of, exchange, serve_web

GUNICORN = f"gunicorn {version('gunicorn')}"
MARK = b"<script>alert(1)</script>"
GET = b"GET /livez?x=" + MARK + b" HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/v1/tokens/?x=" + MARK + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

# By code, what is sent
REFUSED: dict[str, dict[str, bytes]] = {
    "bad_request": {
        "one word": MARK + b"\r\n\r\n",
        "no version": b"GET /" + MARK + b"\r\n\r\n",
        "no address": b"GET  HTTP/1.1\r\n\r\n",
        "a method in small letters": b"get /" + MARK + b" HTTP/1.1\r\n\r\n",
        "a method that is no word": MARK + b" / HTTP/1.1\r\n\r\n",
        "bytes in the address": b"GET /\xff" + MARK + b" HTTP/1.1\r\n\r\n",
        "a version that is none": b"GET / HTTP/" + MARK + b"\r\n\r\n",
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "line feeds alone": b"GET /" + MARK + b" HTTP/1.1\nHost: localhost\n\n",
        "a name with a blank": GET + b"Bad Name: " + MARK + b"\r\n\r\n",
        "a name of other characters": GET + MARK + b": x\r\n\r\n",
        "a name without a colon": GET + MARK + b"\r\n\r\n",
        "no name": GET + b": " + MARK + b"\r\n\r\n",
        "a blank before the colon": GET + b"X-A : " + MARK + b"\r\n\r\n",
        "a control character": GET + b"X-A: " + MARK + b"\x00\r\n\r\n",
        "a folded line": GET + b"X-A: a\r\n " + MARK + b"\r\n\r\n",
        "two hosts": GET + b"Host: " + MARK + b"\r\n\r\n",
        "a length and chunks": POST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
        "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "a negative length": POST + b"Content-Length: -1\r\n\r\n",
        "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
        "a length of two": POST + b"Content-Length: 2, 2\r\n\r\n{}",
        "a length that is none": POST + b"Content-Length: " + MARK + b"\r\n\r\n",
        "a length of many digits": POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        "a coding without an end": POST + b"Transfer-Encoding: gzip\r\n\r\n",
        "chunks in chunks": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n",
        "a chunk of no size": POST + CHUNKED + b"\r\n" + MARK + b"\r\n",
        "a chunk that is longer": POST + CHUNKED + b"\r\n2\r\n{}" + MARK + b"\r\n0\r\n\r\n",
        "a trailer that is none": POST + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n" + MARK + b"\r\n\r\n",
    },
    "uri_too_long": {
        "an address": b"GET /" + MARK + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        "a query": b"GET /?" + MARK + b"a=b&" * 5000 + b" HTTP/1.1\r\n\r\n",
        "one without an end": b"GET /" + MARK + b"a" * 3_000_000,
    },
    "headers_too_large": {
        "many": GET + b"".join(b"X-%d: " % number + MARK + b"\r\n" for number in range(200)) + b"\r\n",
        "a long one": GET + b"Cookie: " + MARK * 1000 + b"\r\n\r\n",
        "one without an end": GET + b"Cookie: " + MARK + b"a" * 3_000_000,
    },
    "expectation_failed": {
        "an expectation": POST + b"Expect: " + MARK + b"\r\nContent-Length: 2\r\n\r\n{}",
        "200-ok": POST + b"Expect: 200-ok\r\nContent-Length: 50000000\r\n\r\n",
    },
    "unsupported_transfer_coding": {
        "a coding": POST + b"Transfer-Encoding: " + MARK + b"\r\n\r\n",
        "one before chunks": POST + b"Transfer-Encoding: br, chunked\r\n\r\n0\r\n\r\n",
    },
    "unsupported_version": {
        "HTTP/3": b"GET /" + MARK + b" HTTP/3.0\r\nHost: localhost\r\n\r\n",
        "HTTP/2": b"GET /" + MARK + b" HTTP/2.0\r\nHost: localhost\r\n\r\n",
        "HTTP/0.9": b"GET /" + MARK + b" HTTP/0.9\r\n\r\n",
    },
}
CASES = [
    pytest.param(code, sent, id=f"{code}: {name}") for code, named in REFUSED.items() for name, sent in named.items()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def port(django_db_setup: None, folder: Path) -> Iterator[int]:
    with serve_web(folder) as port:
        yield port


def assert_is_problem(answer: Answer, code: str) -> None:
    """Of words and headers that are the server's alone."""
    known = REGISTRY[code]
    assert (answer.status, json.loads(answer.body)) == (
        known.status,
        problem(known.status, code=code, detail=known.meaning),
    ), f"{GUNICORN} answers by itself"
    headers = {**answer.headers}
    assert headers.pop("Date").endswith(" GMT")
    assert headers == {
        **SECURITY,
        "Cache-Control": "no-store",
        "Connection": "close",
        "Content-Length": str(len(answer.body)),
        "Content-Type": "application/problem+json",
    }


@pytest.mark.parametrize(("code", "sent"), CASES)
def test_what_the_server_refuses_is_a_problem(port: int, code: str, sent: bytes) -> None:
    # The client's side stays open, with more under way for all that the server knows.
    assert_is_problem(answer_of(exchange(port, sent, ends=False)), code)


def test_a_later_request_on_a_connection_is_refused_alike(port: int) -> None:
    answered, refused = exchange(port, GET + b"\r\n" + GET + MARK + b"\r\n\r\n", ends=False).split(b"HTTP/1.1 ")[1:]
    assert answered.startswith(b"200 ")
    assert_is_problem(answer_of(b"HTTP/1.1 " + refused), "bad_request")


def test_the_operator_hears_of_it(port: int, folder: Path) -> None:
    exchange(port, b"GET / HTTP/8.0\r\n\r\n", ends=False)
    [line] = [line for line in (folder / "web.log").read_text().splitlines() if "(8, 0)" in line]
    assert "127.0.0.1" in line
    assert "Traceback" not in (folder / "web.log").read_text()


def test_each_line_of_web_is_json_if_that_is_asked_for(django_db_setup: None, tmp_path: Path) -> None:
    with serve_web(tmp_path, LOG_JSON="1") as port:
        exchange(port, b"GET / HTTP/8.0\r\n\r\n", ends=False)
        exchange(port, b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    lines = [json.loads(line) for line in (tmp_path / "web.log").read_text().splitlines()]
    words = " ".join(line["event"] for line in lines)
    # The main process, a worker, the application, and the end of it all
    for said in (
        "Starting gunicorn",
        "Booting worker",
        "Invalid request from ip=127.0.0.1",
        "request",
        "Shutting down",
    ):
        assert said in words


def test_after_all_that_it_serves(port: int) -> None:
    assert exchange(port, GET + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")


# Whatever gunicorn may raise


OURS = {errors.ConfigurationProblem, errors.InvalidResponseHeader, errors.InvalidResponseHeaderName}
KINDS = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ParseException)}


def test_what_the_client_did_wrong_is_no_fault_of_ours() -> None:
    statuses = {kind: answer_of(answer_to(BaseException.__new__(kind))).status for kind in KINDS}
    assert {kind for kind, status in statuses.items() if status == 500} == OURS


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), errors.InvalidResponseHeader("secret"), SystemExit("secret")]
)
def test_a_fault_of_ours_says_nothing_of_it(error: BaseException) -> None:
    assert_is_problem(answer_of(answer_to(error)), "server_error")
