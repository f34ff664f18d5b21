"""Which requests count as come by TLS, and what web tells them: over a socket, as a proxy in front would."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from django_tenants.utils import tenant_context
from knox.models import AuthToken

from tenants.models import Tenant
from tests.people import add_user
from tests.web import Answer, answer_of, exchange, serve_web

pytestmark = pytest.mark.usefixtures("committed_db")

HSTS = "max-age=31536000; includeSubDomains"
LARGE = f"Content-Length: {50 * 1024 * 1024}"
LOG_IN = "POST /api/v1/tokens/ HTTP/1.1"
# As buildpacks set it. It makes gunicorn believe whoever connects.
TRUSTING = {"FORWARDED_ALLOW_IPS": "*"}


@pytest.fixture(scope="module")
def behind_proxy(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of web that has a proxy in front, which ends TLS."""
    with serve_web(tmp_path_factory.mktemp("web"), BEHIND_TLS_PROXY="1", THROTTLE_LOGIN="1/day", **TRUSTING) as port:
        yield port


@pytest.fixture(scope="module")
def in_front(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of web that talks with clients itself."""
    with serve_web(tmp_path_factory.mktemp("web"), **TRUSTING) as port:
        yield port


def ask(port: int, line: str, *headers: str, host: str = "localhost") -> Answer:
    lines = [line, f"Host: {host}", "Connection: close", *headers, "", ""]
    return answer_of(exchange(port, "\r\n".join(lines).encode("latin-1")))


def by_tls(port: int, line: str, *headers: str, host: str = "localhost") -> Answer:
    return ask(port, line, "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.7", *headers, host=host)


# Behind a proxy

# How to ask, and the status
ANSWERS: dict[str, tuple[tuple[str, ...], int]] = {
    "health": (("GET /livez HTTP/1.1",), 200),
    "a page": (("GET /api/v1/docs/ HTTP/1.1", "Accept: text/html"), 200),
    "the schema": (("GET /api/v1/schema/ HTTP/1.1",), 200),
    "a problem's page": (("GET /problems/not_found HTTP/1.1",), 200),
    "a static file": (("GET /static/admin/css/base.css HTTP/1.1",), 200),
    "no static file": (("GET /static/none.css HTTP/1.1",), 404),
    "nowhere": (("GET /nowhere HTTP/1.1",), 404),
    "the admin's redirect": (("GET /admin/ HTTP/1.1",), 302),
    "the front page's": (("GET / HTTP/1.1",), 302),
    "the admin's login": (("GET /admin/login/ HTTP/1.1",), 200),
    "no cookie": (("POST /admin/login/ HTTP/1.1", "Content-Length: 0"), 403),
    "a bad header": (("GET /api/v1/users/ HTTP/1.1", "Tenant: ?"), 400),
    "a body too large": ((LOG_IN, "Content-Type: application/json", LARGE), 413),
    "a coded body": ((LOG_IN, "Content-Encoding: gzip", "Content-Length: 2"), 415),
    "the server's refusal": (("GET / HTTP/3.0",), 505),
    "its refusal of a header": (("GET / HTTP/1.1", "Bad Name: x"), 400),
    "its refusal of an address": ((f"GET /{'a' * 9000} HTTP/1.1",), 414),
    "its refusal of a body": ((LOG_IN, "Content-Length: -1"), 400),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_each_answer_makes_browsers_insist_on_tls(behind_proxy: int, case: str) -> None:
    request, status = ANSWERS[case]
    answer = by_tls(behind_proxy, *request)
    assert (answer.status, answer.headers.get("Strict-Transport-Security")) == (status, HSTS)


@pytest.mark.parametrize("host", ["acme.localhost", "nobody.localhost", "elsewhere.example"])
def test_those_of_other_hosts_too(behind_proxy: int, host: str) -> None:
    answer = by_tls(behind_proxy, "GET /api/v1/users/ HTTP/1.1", host=host)
    assert (answer.status // 100, answer.headers["Strict-Transport-Security"]) == (4, HSTS)


def test_one_that_waits_too(behind_proxy: int, acme: Tenant) -> None:
    body = '{"email": "x@acme.example", "password": "x"}'
    request = (LOG_IN, "Content-Type: application/json", f"Content-Length: {len(body)}", "", body)
    answers = [by_tls(behind_proxy, *request, host="acme.localhost") for _ in range(2)]
    assert answers[-1].status == 429
    assert {answer.headers["Strict-Transport-Security"] for answer in answers} == {HSTS}


# Each is a client that came by plain HTTP, whatever it says. A proxy says so, or nothing.
PLAIN = {
    "nothing": (),
    "the proxy's word": ("X-Forwarded-Proto: http",),
    "another header": ("X-Forwarded-Proto: http", "X-Forwarded-Ssl: on"),
    "others alone": ("X-Forwarded-Ssl: on", "X-Forwarded-Protocol: ssl", "X-Forwarded-Scheme: https"),
    "RFC 7239": ("Forwarded: proto=https",),
    "another spelling": ("X-Forwarded-Proto: http", "X_Forwarded_Proto: https", "X-Forwarded_Proto: https"),
    "a later word": ("X-Forwarded-Proto: http", "X-Forwarded-Proto: https"),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_http_is_led_to_tls(behind_proxy: int, case: str) -> None:
    for path in ("/", "/admin/", "/api/v1/schema/?a=b", "/static/admin/css/base.css", "/nowhere"):
        answer = ask(behind_proxy, f"GET {path} HTTP/1.1", *PLAIN[case])
        assert (answer.status, answer.headers["Location"]) == (301, f"https://localhost{path}")
        assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize("case", PLAIN)
def test_a_load_balancer_asks_for_health_without(behind_proxy: int, case: str) -> None:
    answer = ask(behind_proxy, "GET /livez HTTP/1.1", *PLAIN[case], host="10.0.0.7")
    assert (answer.status, "Strict-Transport-Security" in answer.headers) == (200, False)


# Without a proxy

SAYS_HTTPS = (
    "X-Forwarded-Proto: https",
    "X-Forwarded-Ssl: on",
    "X-Forwarded-Protocol: ssl",
    "X-Forwarded-Scheme: https",
    "Front-End-Https: on",
    "Forwarded: proto=https",
)


@pytest.mark.parametrize("word", SAYS_HTTPS)
def test_nobody_is_believed_to_have_come_by_tls(in_front: int, acme: Tenant, word: str) -> None:
    with tenant_context(acme):
        _, token = AuthToken.objects.create(user=add_user(acme, "ada", "owner"))
    add_user(acme, "abe")
    line = "GET /api/v1/users/?page_size=1 HTTP/1.1"
    answer = ask(in_front, line, f"Authorization: Bearer {token}", word, host="acme.localhost")
    assert (answer.status, '"next":"http://acme.localhost/' in answer.body) == (200, True)
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize("request_line", ["GET /livez HTTP/1.1", "GET / HTTP/3.0", "GET /admin/ HTTP/1.1"])
def test_nor_do_they_hear_of_tls(in_front: int, request_line: str) -> None:
    answer = ask(in_front, request_line, *SAYS_HTTPS)
    assert "Strict-Transport-Security" not in answer.headers
    assert not answer.headers.get("Location", "").startswith("https:")


# Redirects

AWAY = [
    ("GET /admin/ HTTP/1.1", "evil.example"),
    ("GET /admin/ HTTP/1.1", "localhost.evil.example"),
    ("GET /admin/ HTTP/1.1", "evil.example:80@localhost"),
    ("GET /admin/ HTTP/1.1", "localhost@evil.example"),
    ("GET /admin/ HTTP/1.1", "evil.example/.localhost"),
    ("GET /admin/ HTTP/1.1", "evil.example#.localhost"),
    ("GET /admin/ HTTP/1.1", "evil.example?.localhost"),
    ("GET /admin/ HTTP/1.1", "evil.example\\.localhost"),
    ("GET /admin/ HTTP/1.1", "localhost, evil.example"),
    ("GET http://evil.example/admin/ HTTP/1.1", "localhost"),
    ("GET //evil.example/admin/ HTTP/1.1", "localhost"),
    ("GET ///evil.example/ HTTP/1.1", "localhost"),
    ("GET /\\evil.example/ HTTP/1.1", "localhost"),
    ("GET /%2f%2fevil.example HTTP/1.1", "localhost"),
    ("GET /admin//evil.example HTTP/1.1", "localhost"),
    ("GET /%0d%0aLocation:%20http://evil.example/ HTTP/1.1", "localhost"),
    ("GET /admin/?next=//evil.example/ HTTP/1.1", "localhost"),
    ("GET /?next=//evil.example/ HTTP/1.1", "localhost"),
]
NAMED_OTHERWISE = ("X-Forwarded-Host: evil.example", "Forwarded: host=evil.example", "X-Forwarded-Server: evil.example")


@pytest.mark.parametrize(("line", "host"), AWAY)
def test_no_redirect_leads_to_a_host_of_the_clients_choice(
    in_front: int, behind_proxy: int, line: str, host: str
) -> None:
    answers = [
        ask(in_front, line, *NAMED_OTHERWISE, host=host),
        ask(behind_proxy, line, *NAMED_OTHERWISE, host=host),
        by_tls(behind_proxy, line, *NAMED_OTHERWISE, host=host),
    ]
    for answer in answers:
        assert answer.status < 500
        assert urlsplit(answer.headers.get("Location", "")).hostname in (None, "localhost")
