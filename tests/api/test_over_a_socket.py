"""What a client's headers can do to the API as it is served: by gunicorn, over a socket."""

from collections.abc import Callable, Iterator
from importlib.metadata import version

import pytest
from django_tenants.utils import tenant_context
from knox.models import AuthToken

from accounts.models import User
from config.bodies import MAX_BYTES
from tenants.models import Tenant
from tests.people import add_user
from tests.web import Answer, answer_of, exchange, serve_web

pytestmark = pytest.mark.usefixtures("committed_db")

GUNICORN = f"gunicorn {version('gunicorn')}"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"

Ask = Callable[..., Answer]


@pytest.fixture
def ada(acme: Tenant) -> User:
    return add_user(acme, "ada", "owner")


@pytest.fixture(scope="module")
def port(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serve_web(tmp_path_factory.mktemp("web")) as port:
        yield port


@pytest.fixture
def ask(port: int, acme: Tenant, ada: User) -> Ask:
    """Sends bytes as they are, as Ada of acme."""
    with tenant_context(acme):
        _, token = AuthToken.objects.create(user=ada)

    def ask(request_line: str, *headers: str | bytes, body: bytes = b"", host: str = "acme.localhost") -> Answer:
        own = [f"Host: {host}", f"Authorization: Bearer {token}", "Connection: close"]
        named = {_name(header) for header in headers}
        lines = [request_line, *(line for line in own if _name(line) not in named), *headers]
        head = b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
        return answer_of(exchange(port, head + b"\r\n\r\n" + body))

    return ask


def _name(header: str | bytes) -> bytes:
    line = header if isinstance(header, bytes) else header.encode()
    return line.partition(b":")[0].lower()


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


def length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


def test_a_chunked_body_is_read(ask: Ask, acme: Tenant, ada: User) -> None:
    patch = "PATCH /api/v1/users/me/ HTTP/1.1"
    answer = ask(patch, JSON, CHUNKED, body=chunks(b'{"full_na', b'me": "Ada', b' Changed"}'))
    assert (answer.status, '"full_name":"Ada Changed"' in answer.body) == (200, True)
    with tenant_context(acme):
        ada.refresh_from_db()
    assert ada.full_name == "Ada Changed"
    assert ask(patch, JSON, CHUNKED, body=chunks()).status == 200
    assert ask(patch, JSON, CHUNKED, body=chunks(b'{"full_name": ""}')).status == 400
    assert ask(patch, "Content-Type: text/plain", CHUNKED, body=chunks(b"x")).status == 415
    assert ask(patch, CHUNKED, body=chunks(b"{}")).status == 415


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked", "GZIP,chunked"])
def test_a_body_in_another_transfer_coding_is_not_taken_for_a_plain_one(
    ask: Ask, acme: Tenant, ada: User, coding: str
) -> None:
    answer = ask(
        "PATCH /api/v1/users/me/ HTTP/1.1",
        JSON,
        f"Transfer-Encoding: {coding}",
        body=chunks(b'{"full_name": "Changed"}'),
    )
    assert 400 <= answer.status < 500 or answer.status == 501
    with tenant_context(acme):
        assert User.objects.get(pk=ada.pk).full_name == ada.full_name


def test_a_chunked_body_is_bounded(ask: Ask) -> None:
    patch = "PATCH /api/v1/users/me/ HTTP/1.1"
    spaces = b" " * (MAX_BYTES - 2)
    assert ask(patch, JSON, CHUNKED, body=chunks(b"{}", spaces)).status == 200
    answer = ask(patch, JSON, CHUNKED, body=chunks(b"{}", spaces, b" "))
    assert (answer.status, '"too_large"' in answer.body) == (413, True)


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"-1\r\n\r\n"])
def test_malformed_chunks(ask: Ask, body: bytes) -> None:
    assert 400 <= ask("PATCH /api/v1/users/me/ HTTP/1.1", JSON, CHUNKED, body=body).status < 500


@pytest.mark.parametrize("path", ["/api/v1/users/", "/api/v1/nowhere/", "/admin/login/", "/"])
def test_a_large_body_is_refused_unread(ask: Ask, path: str) -> None:
    # Only its first byte is sent: an answer comes nevertheless.
    large = f"Content-Length: {50 * 1024 * 1024}"
    for host in ("acme.localhost", "localhost"):
        for kind in (JSON, "Content-Type: application/x-www-form-urlencoded", "X-None: x"):
            answer = ask(f"POST {path} HTTP/1.1", kind, large, body=b"{", host=host)
            assert (answer.status, "application/problem+json" in answer.head) == (413, True)


def test_a_large_body_is_refused_while_it_is_under_way(port: int) -> None:
    large = head_of(JSON, f"Content-Length: {50 * 1024 * 1024}")
    for begun in (b"", b"{", b" " * 5_000_000):
        answer = answer_of(exchange(port, large + begun, ends=False))
        assert (answer.status, '"too_large"' in answer.body) == (413, True)


def test_a_chunked_body_without_an_end_is_refused_all_the_same(port: int) -> None:
    # Its client goes on listening, and would send more: nobody waits for it.
    chunk = chunks(b" " * (MAX_BYTES + 100_000)).removesuffix(b"0\r\n\r\n")
    answer = answer_of(exchange(port, head_of(JSON, CHUNKED) + chunk, ends=False))
    assert (answer.status, '"too_large"' in answer.body) == (413, True)


def test_who_waits_to_be_told_to_go_on_is_told_of_the_refusal_instead(port: int) -> None:
    waiting = head_of(JSON, "Expect: 100-continue", f"Content-Length: {50 * 1024 * 1024}")
    answer = answer_of(exchange(port, waiting, ends=False))
    assert (answer.status, '"too_large"' in answer.body) == (413, True), f"{GUNICORN} told it to go on"


def test_who_waits_to_be_told_to_go_on_is_told_so(port: int) -> None:
    waiting = head_of(JSON, "Expect: 100-continue", "Connection: close", "Content-Length: 2")
    answer = exchange(port, waiting + b"{}", ends=False)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ")


def test_what_follows_a_body_is_no_part_of_it(port: int) -> None:
    surplus = b" " * 5_000_000
    answers = exchange(port, head_of(JSON, "Content-Length: 2") + b"{}" + surplus, ends=False)
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert b'"#/email"' in answers
    # It would be the next request.
    assert answers.count(b"HTTP/1.1 414 ") == 1


def head_of(*headers: str) -> bytes:
    """Of a log-in, which needs no token."""
    lines = ["POST /api/v1/tokens/ HTTP/1.1", "Host: acme.localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "x", "gzip, identity", "GZIP"])
def test_a_coded_body_is_refused_unread(ask: Ask, coding: str) -> None:
    patch = "PATCH /api/v1/users/me/ HTTP/1.1"
    answer = ask(patch, JSON, f"Content-Encoding: {coding}", "Content-Length: 9999", body=b"\x1f\x8b")
    assert (answer.status, "Accept-Encoding: identity" in answer.head) == (415, True)


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-16", "application/json; charset=hex", "text/plain", "x"]
)
def test_a_body_of_another_type_is_refused_unread(ask: Ask, kind: str) -> None:
    answer = ask("PATCH /api/v1/users/me/ HTTP/1.1", f"Content-Type: {kind}", "Content-Length: 9999", body=b"{")
    assert (answer.status, "application/problem+json" in answer.head) == (415, True)


def test_an_answer_that_nobody_accepts_is_not_made(ask: Ask, acme: Tenant, ada: User) -> None:
    body = b'{"full_name": "Changed"}'
    answer = ask("PATCH /api/v1/users/me/ HTTP/1.1", JSON, "Accept: text/csv", length(body), body=body)
    assert (answer.status, "application/problem+json" in answer.head) == (406, True)
    with tenant_context(acme):
        assert User.objects.get(pk=ada.pk).full_name == ada.full_name


@pytest.mark.parametrize(
    "accepted",
    ["application/json;q=0", "application/xml, application/json; q=0.000", "*/*;Q=0", "text/csv, */*;q=0;a=b"],
)
def test_a_weight_of_0_refuses(ask: Ask, accepted: str) -> None:
    assert ask("GET /api/v1/users/me/ HTTP/1.1", f"Accept: {accepted}").status == 406


@pytest.mark.parametrize(
    "accepted",
    [
        "application/problem+json",
        "application/problem+json, text/html;q=0.5",
        "application/json",
        "application/json; charset=utf-8",
        "application/*",
        "*/*;q=0.1",
        "text/html;q=0, application/json;q=0.001",
    ],
)
def test_who_accepts_problems_accepts_the_api(ask: Ask, accepted: str) -> None:
    there = ask("GET /api/v1/users/me/ HTTP/1.1", f"Accept: {accepted}")
    assert (there.status, "Content-Type: application/json" in there.head) == (200, True)
    gone = ask("GET /api/v1/users/x/ HTTP/1.1", f"Accept: {accepted}")
    assert (gone.status, "Content-Type: application/problem+json" in gone.head) == (404, True)


CHARSETS = ["utf-8", "UTF-8", '"utf-8"', "utf8", "us-ascii"]


@pytest.mark.parametrize("charset", CHARSETS)
def test_charsets_of_json(ask: Ask, charset: str) -> None:
    kind = f"Content-Type: application/json; charset={charset}"
    assert ask("PATCH /api/v1/users/me/ HTTP/1.1", kind, "Content-Length: 2", body=b"{}").status == 200


@pytest.mark.parametrize(
    "target",
    [
        "http://acme.localhost/api/v1/users/me/",
        "HTTP://ACME.localhost./api/v1/users/me/",
        "https://acme.localhost:8000/api/v1/users/?email=http://globex.localhost/",
        "/api/v1/users/?email=http://globex.localhost/",
    ],
)
def test_a_target_that_names_the_same_host(ask: Ask, target: str) -> None:
    assert ask(f"GET {target} HTTP/1.1").status == 200


@pytest.mark.parametrize(
    "authority",
    [
        "globex.localhost", "globex.localhost:80", "localhost", "example.com", "acme.localhost.example.com", "",
        "acme.localhost@globex.localhost", "globex.localhost@acme.localhost", "acme%2elocalhost", "[::1]", "[::1",
        "acme.localhost\\@globex.localhost", "globex.localhost\\@acme.localhost",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https", "x"])
def test_a_target_that_names_another_host(ask: Ask, globex: Tenant, scheme: str, authority: str) -> None:
    answer = ask(f"GET {scheme}://{authority}/api/v1/users/me/ HTTP/1.1")
    assert (answer.status, "application/problem+json" in answer.head) == (400, True)


def test_it_is_told_so(ask: Ask, acme: Tenant, globex: Tenant) -> None:
    answer = ask("GET http://globex.localhost/api/v1/users/me/ HTTP/1.1")
    assert '"bad_host"' in answer.body
    assert "globex" not in answer.body


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a_target_without_a_host_header(port: int, acme: Tenant, version: str) -> None:
    head = f"GET http://acme.localhost/api/v1/users/me/ {version}\r\nConnection: close\r\n\r\n"
    assert answer_of(exchange(port, head.encode())).status == 400


def test_a_tenant_header_on_the_public_host_needs_that_host_in_the_target(ask: Ask) -> None:
    for authority, status in (("localhost", 200), ("acme.localhost", 400)):
        answer = ask(f"GET http://{authority}/api/v1/users/me/ HTTP/1.1", "Tenant: acme", host="localhost")
        assert answer.status == status


# Each is read by something on its way, so it gets values of its own beside those that are odd anywhere.
ODD = [
    b"", b" ", b",", b";", b"=", b'"', b"\\", b"%00", b"%ff", b"\xff\xfe", b"\xc3\xa9", b"\x01", b"\x7f", b"\t",
    b"a" * 8000, b"a," * 3000, b"-1", b"9" * 4000, b"1e999", b"\xb2", b"*",
]  # fmt: skip
MEDIA = [
    b"a/b;" * 1500, b"*/*;q=nan", b"*/*;q=" + b"9" * 4000, b"a/b;q=\xb2", b"text/html; =x; a",
    b"application/json;indent=" + b"9" * 5000, b"application/json;indent=\xb2", b"application/json; charset=",
    b"a/b; c*=utf-8''%00", b"a/b; c*=nonsense''x", b"a/b; c*0*=x; c*1=y", b"a/b; c*=''", b"a/b; charset*=utf-8''%00",
    b"application/json; charset*=utf-8''%00", b"application/json; charset=\xff", b"application/json; charset=hex",
    b"application/json; charset=a" + b"." * 200, b"application/json; charset=../x", b"application/json; charset=idna",
    b"application/json; charset=unicode_escape", b"multipart/form-data", b"multipart/form-data; boundary=\xff",
    b"multipart/form-data; boundary=" + b"x" * 300,
]  # fmt: skip
CONDITIONS = [
    b"bytes=0-", b"bytes=-1", b"bytes=5-2", b"bytes=0-0,1-1", b"bytes=" + b"9" * 4000 + b"-", b"bytes=\xb2-",
    b'"x"', b'W/"x"', b"W/", b'"a", W/"b", *', b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 99 Foo 99999 99:99:99 GMT",
    b"Mon, 01 Jan 0000 00:00:00 GMT", b"Fri, 31 Dec 9999 23:59:59 -2359", b"Sun, 06 Nov 94 00:00:00 GMT",
    b"Mon, 01 Jan 20260000000000000000 00:00:00 GMT",
]  # fmt: skip
HOSTS = [
    b"acme.localhost:99999999999", b"localhost:" + b"0" * 300 + b"80", b"localhost:x", b"localhost:", b":80", b"[::1]",
    b".localhost", b"[::1", b"localhost/x", b"a@localhost", b"acme..localhost", b"\xe9.localhost", b"localhost:99999",
    b"a" * 300 + b".localhost", b"http://localhost", b"https://localhost:x/", b"null", b"http://[", b"http://[::1]:9999999/",
]  # fmt: skip
COOKIES = [
    b'sessionid="aaaaaaaa\\000"', b'csrftoken="\\000"', b"sessionid=" + b"a" * 4000, b"sessionid=\xff\xfe\xfd",
    b"a=b; ; =", b'messages="\\000"', b"messages=x:y", b'sessionid="aaaaaaaa\\355\\240\\200"', b"csrftoken=\xff",
]  # fmt: skip
TOKENS = [b"Bearer", b"Bearer ", b"Bearer a b", b"Bearer \xff", b"Basic \xff", b"Token x", b"Bearer " + b"0" * 64]
OWNER = b'{"email": "x@x.example", "full_name": "X", "password": "correct horse"}'
LIST = ("GET /api/v1/users/?email=%41 HTTP/1.1", "acme.localhost", b"")
CHANGE = ("PATCH /api/v1/users/me/ HTTP/1.1", "acme.localhost", b"{}")
SIGN_UP = ("POST /api/v1/tenants/ HTTP/1.1", "localhost", b'{"name": "A", "slug": "initech", "owner": %s}' % OWNER)
FILE = ("GET /static/admin/css/base.css HTTP/1.1", "localhost", b"")
ADMIN = ("GET /admin/ HTTP/1.1", "localhost", b"")
FORM = ("POST /admin/login/ HTTP/1.1", "localhost", b"username=x&password=y")
READ_BY = {
    "Accept": ([LIST], MEDIA),
    "Authorization": ([LIST], TOKENS),
    "Content-Type": ([LIST, CHANGE, FORM], MEDIA),
    "Content-Encoding": ([CHANGE], []),
    "Content-Length": ([CHANGE], []),
    "Transfer-Encoding": ([CHANGE], []),
    "Cookie": ([ADMIN, FORM], COOKIES),
    "Host": ([SIGN_UP, LIST], HOSTS),
    "Idempotency-Key": ([SIGN_UP], []),
    "If-Modified-Since": ([FILE, LIST], CONDITIONS),
    "If-None-Match": ([FILE, LIST], CONDITIONS),
    "Range": ([FILE], CONDITIONS),
    "Origin": ([FORM], HOSTS),
    "Referer": ([FORM], HOSTS),
    "SCRIPT_NAME": ([LIST], []),
}
OTHERS = [
    "Accept-Charset", "Accept-Encoding", "Accept-Language", "Access-Control-Request-Method", "Content-Language",
    "Content-Location", "Content-Range", "Date", "Forwarded", "From", "If-Match", "If-Range", "If-Unmodified-Since",
    "Max-Forwards", "PATH_INFO", "Prefer", "REMOTE_USER", "Script-Name", "TE", "Tenant", "Upgrade", "User-Agent",
    "X-CSRFToken", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto",
    "X-HTTP-Method-Override", "X-Request-ID", "X-Requested-With",
]  # fmt: skip


@pytest.mark.parametrize("header", READ_BY)
def test_no_header_breaks_anything(ask: Ask, header: str) -> None:
    requests, values = READ_BY[header]
    for request_line, host, body in requests:
        for value in [*ODD, *values]:
            headers = [f"{header}: ".encode() + value]
            if body and header not in ("Content-Length", "Transfer-Encoding"):
                headers.append(length(body).encode())
            if body and header != "Content-Type":
                headers.append(JSON.encode())
            answer = ask(request_line, *headers, body=body, host=host)
            # RFC 9112 has 501 for a transfer coding that is not understood.
            allowed = {501} if header == "Transfer-Encoding" else set()
            assert answer.status < 500 or answer.status in allowed, (request_line, value, answer)


@pytest.mark.parametrize("path", ["/api/v1/users/?email=%41", "/api/v1/docs/", "/livez", "/nowhere"])
def test_neither_do_the_others(ask: Ask, path: str) -> None:
    for value in ODD:
        if len(value) < 1000:  # all of them at once would be too long
            headers = [f"{header}: ".encode() + value for header in OTHERS]
            answer = ask(f"GET {path} HTTP/1.1", *headers)
            assert answer.status < 500, (path, value, answer)


ME = "GET /api/v1/users/me/ HTTP/1.1"
# Each names acme, globex, or both, in a way in which two readers may differ.
NAMES = [
    ("GET http://globex.localhost/api/v1/users/me/ HTTP/1.1",),
    ("GET HTTP://GLOBEX.LOCALHOST:80/api/v1/users/me/ HTTP/1.1",),
    ("GET http://acme.localhost/api/v1/users/me/ HTTP/1.1", "Host: globex.localhost"),
    ("GET http://acme.localhost@globex.localhost/api/v1/users/me/ HTTP/1.1",),
    ("GET //globex.localhost/api/v1/users/me/ HTTP/1.1",),
    ("GET http:globex.localhost/api/v1/users/me/ HTTP/1.1",),
    (ME, "Host: acme.localhost", "Host: globex.localhost"),
    (ME, "Host: globex.localhost", "Host: acme.localhost"),
    (ME, "Host: acme.localhost, globex.localhost"),
    (ME, "Host: globex.localhost acme.localhost"),
    (ME, "Host: globex.localhost"),
    (ME, "Host: GLOBEX.localhost.:80"),
    (ME, "Host: acme.localhost\tglobex.localhost"),
    (ME, "Host: localhost", "Tenant: globex"),
    (ME, "Host: localhost", "Tenant: acme", "Tenant: globex"),
    (ME, "Host: localhost", "Tenant: globex", "TENANT: acme"),
    (ME, "Host: localhost", "Tenant: acme", "Tenant : globex"),
    (ME, "Host: localhost", "Tenant: acme\x0bglobex"),
    (ME, "Host: localhost", "X_Tenant: globex", "Tenant_: globex", "Tenant: acme"),
    (ME, "Tenant: globex"),
    (ME, "X-Forwarded-Host: globex.localhost"),
    (ME, "X-Forwarded-Host: globex.localhost", "X-Forwarded-Proto: https", "Forwarded: host=globex.localhost"),
    (ME, "X-Original-URL: http://globex.localhost/api/v1/users/me/", "X-Rewrite-URL: /api/v1/users/me/"),
]


@pytest.mark.parametrize("lines", NAMES)
def test_no_name_of_another_tenant_opens_it(
    ask: Ask, acme: Tenant, globex: Tenant, ada: User, lines: tuple[str, ...]
) -> None:
    """Though it has a user of the same id."""
    gus = add_user(globex, "gus", "owner", id=ada.pk)
    answer = ask(*lines)
    assert gus.email not in answer.body
    assert 200 <= answer.status < 500
    assert (answer.status == 200) == (ada.email in answer.body)
