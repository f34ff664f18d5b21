import json
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from django.apps import apps
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from accounts.models import User
from config import api, problems
from config.bodies import MAX_BYTES
from config.codes import REGISTRY
from config.refusals import RefusalMiddleware
from tenants.models import Tenant
from tests.people import add_user, client_of

needs_billing = pytest.mark.skipif(not apps.is_installed("billing"), reason="an order needs it")
USERS = "/api/v1/users/"
COLLECTIONS = [prefix for prefix, _, _ in api.tenant.registry]


@pytest.fixture
def ada(acme: Tenant) -> User:
    return add_user(acme, "ada", "owner")


@pytest.fixture
def client(acme: Tenant, ada: User) -> APIClient:
    return client_of(acme, ada)


def checked(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.content)
    assert {"type", "title", "status", "detail", "code"} <= body.keys()
    assert (body["type"], body["status"], body["code"]) == (f"/problems/{code}", status, code)
    assert (body["status"], body["title"]) == (REGISTRY[code].status, REGISTRY[code].title)
    assert isinstance(body["detail"], str)
    return body


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("method", ["get", "post", "patch", "delete", "options"])
@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/nowhere/", "/api/v1/users", "/%00", "/%ff/", "/x//", "/admin/"])
def test_nothing_is_there(client: APIClient, path: str, method: str, debug: bool) -> None:
    with override_settings(DEBUG=debug):
        checked(getattr(client, method)(path), 404, "not_found")


@pytest.mark.django_db
def test_nothing_is_there_on_the_public_host_either() -> None:
    strict = Client(enforce_csrf_checks=True, headers={"host": "localhost"})
    checked(strict.post("/api/v1/nowhere/"), 404, "not_found")


def test_a_forgotten_slash_is_named(client: APIClient) -> None:
    assert "end in a slash" in checked(client.get("/api/v1/users"), 404, "not_found")["detail"]


def test_a_method_that_is_not_there(client: APIClient) -> None:
    answer = client.delete(USERS)
    checked(answer, 405, "method_not_allowed")
    assert "POST" in answer["Allow"]


def test_a_type_that_is_not_offered(client: APIClient) -> None:
    checked(client.get(USERS, headers={"accept": "text/csv"}), 406, "not_acceptable")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"],
)
def test_a_type_that_is_not_understood(client: APIClient, content_type: str) -> None:
    checked(client.post(USERS, b"a=b", content_type=content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"", b"{'a': 1}", b"\xff\xfe", b"NaN", b'{"a": Infinity}', b'{"a": "\x00"}', b"[" * 200_000, b"1" * 5000,
        b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_malformed_json(client: APIClient, body: bytes) -> None:
    answer = client.post(USERS, body, content_type="application/json")
    if body:
        checked(answer, 400, "parse_error")
    else:
        checked(answer, 400, "invalid")


@pytest.mark.parametrize("body", ["[]", "null", "7", '"a"', "[{}]", "true"])
def test_json_that_is_no_object(client: APIClient, body: str) -> None:
    checked(client.post(USERS, body, content_type="application/json"), 400, "invalid")


@pytest.mark.parametrize("charset", ["utf-16", "rot13", "hex", "nonsense", "undefined", "idna"])
def test_odd_charsets(client: APIClient, charset: str) -> None:
    answer = client.post(USERS, b"{}", content_type=f"application/json; charset={charset}")
    checked(answer, 415, "unsupported_media_type")


def test_a_body_that_is_too_large(client: APIClient) -> None:
    body = json.dumps({"full_name": "a" * MAX_BYTES})
    checked(client.post(USERS, body, content_type="application/json"), 413, "too_large")


def test_what_is_wrong_and_where(client: APIClient, public_client: APIClient) -> None:
    body = checked(client.post(USERS, {"email": "x"}), 400, "invalid")
    assert body["detail"] == "The request is not valid; see `errors`."
    assert {"detail": "Enter a valid email address.", "code": "invalid", "pointer": "#/email"} in body["errors"]
    assert {"detail": "This field is required.", "code": "required", "pointer": "#/role"} in body["errors"]
    nested = checked(public_client.post("/api/v1/tenants/", {"owner": {"email": 1}}), 400, "invalid")
    assert "#/owner/full_name" in {error["pointer"] for error in nested["errors"]}
    assert "#/name" in {error["pointer"] for error in nested["errors"]}


def test_a_pointer_escapes_its_keys() -> None:
    paths = [path for path, _ in problems._flat({"a/b~c": {0: ["no"]}, "non_field_errors": ["no"]})]
    assert paths == [("a/b~c", "0"), ()]
    assert problems._entry(paths[0], "no", "pointer")["pointer"] == "#/a~1b~0c/0"
    assert problems._entry(paths[1], "no", "pointer")["pointer"] == "#"


def test_an_error_in_the_query_names_its_parameter(client: APIClient) -> None:
    body = checked(client.get(f"{USERS}?role=king"), 400, "invalid")
    assert [error["parameter"] for error in body["errors"]] == ["role"]


@pytest.mark.parametrize("path", [*(f"{name}/" for name in COLLECTIONS), "users/me/", "schema/", "docs/"])
@pytest.mark.parametrize(
    "query", ["?a=%00", "?%00=a", "?cursor=%00", "?page_size=%00", "?a=%ff", "?page_size=-1", "?a&&=&b"]
)
def test_odd_queries_break_nothing(client: APIClient, path: str, query: str) -> None:
    assert client.get(f"/api/v1/{path}{query}").status_code in (200, 400)


@pytest.mark.parametrize("path", COLLECTIONS)
@pytest.mark.parametrize("id", ["%00", "0", "x", "01a2040f-3363-722a-9cc9-398661955af6", "%2e%2e", "%ff", "'"])
def test_ids_of_nothing(client: APIClient, path: str, id: str) -> None:
    checked(client.get(f"/api/v1/{path}/{id}/"), 404, "not_found")


@pytest.mark.parametrize("path", COLLECTIONS)
@pytest.mark.parametrize(
    "cursor", ["p=x", "p=%00", "p=", "p=-1", f"p={10**30}", "o=x", "o=-1", "r=1&p='", "o=99999999"]
)
def test_cursors_of_nothing(client: APIClient, path: str, cursor: str) -> None:
    of = sha256(f"/api/v1/{path}/?".encode()).hexdigest()[:16]
    encoded = b64encode(f"{cursor}&s=2026-01-01T00:00:00Z&l={of}".encode()).decode()
    assert client.get(f"/api/v1/{path}/", {"cursor": encoded}).status_code in (200, 400)


@pytest.mark.parametrize("slug", ["nobody", "%00", "A", "..", "a%20b", "x" * 300])
def test_no_such_tenant(public_client: APIClient, acme: Tenant, slug: str) -> None:
    checked(public_client.get(f"/api/v1/tenants/{slug}/"), 404, "not_found")


def test_who_asks_too_often_is_told_when_to_come_back(
    client_for: Callable[[Tenant], APIClient], acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"address": "2/day"})
    client = client_for(acme)
    client.defaults["REMOTE_ADDR"] = "192.0.2.1"
    answers = [client.post("/api/v1/tokens/", {}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [400, 400, 429]
    checked(answers[2], 429, "throttled")
    assert 1 <= int(answers[2]["Retry-After"]) <= 86400


def test_a_page_of_the_documentation_fails_as_a_problem(
    client_for: Callable[[Tenant], APIClient], acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"address": "1/day"})
    for number, path in enumerate(("schema", "docs")):
        client = client_for(acme)
        client.defaults["REMOTE_ADDR"] = f"192.0.2.{100 + number}"
        assert client.get(f"/api/v1/{path}/").status_code == 200
        checked(client.get(f"/api/v1/{path}/"), 429, "throttled")


def test_a_mistake_of_ours_says_nothing_of_it(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**kwargs: Any) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr("accounts.views.services.log_in", broken)
    client = APIClient(raise_request_exception=False, headers={"host": "acme.localhost"})
    answer = client.post("/api/v1/tokens/", {"email": "a", "password": "b"})
    checked(answer, 500, "server_error")
    assert b"secret" not in answer.content


def test_django_s_own_errors_are_problems() -> None:
    checked(problems.bad_request(None, Exception()), 400, "bad_request")  # type: ignore[arg-type]
    checked(problems.permission_denied(None, Exception()), 403, "permission_denied")  # type: ignore[arg-type]


# Each error says what would be right


def test_a_body_without_a_type_is_told_the_type(client: APIClient) -> None:
    for content_type in ("", "application/x-www-form-urlencoded"):
        answer = client.generic("POST", USERS, "{}", content_type=content_type)
        assert "send `Content-Type: application/json`" in checked(answer, 415, "unsupported_media_type")["detail"]


def test_an_accept_of_nothing_is_told_what_there_is(client: APIClient) -> None:
    answer = client.get(USERS, headers={"accept": "text/csv"})
    assert checked(answer, 406, "not_acceptable")["detail"].endswith("offered here: application/json.")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("users/?role=boss", "Give one of owner, admin, member."),
        ("users/?is_active=1", "Give true or false."),
        pytest.param(
            "orders/?status=done", "Give one of pending, paid, payment_failed, cancelled.", marks=needs_billing
        ),
        ("messages/?status=done", "Give one of queued, sent, failed."),
        ("jobs/?state=done", "Give one of pending, retry, started, dead, success, failure, revoked, ignored."),
    ],
)
def test_a_wrong_choice_is_told_the_choices(client: APIClient, query: str, told: str) -> None:
    [error] = checked(client.get(f"/api/v1/{query}"), 400, "invalid")["errors"]
    assert error["detail"] == told


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("users", [], "Give an object."),
        ("users", {"role": "boss"}, "Give one of owner, admin, member."),
        pytest.param("orders", {"lines": {}}, "Give a list.", marks=needs_billing),
        pytest.param("orders", {"lines": [7]}, "Give an object.", marks=needs_billing),
    ],
)
def test_a_wrong_body_is_told_what_to_give_without_words_of_python(
    client: APIClient, path: str, body: Any, told: str
) -> None:
    errors = checked(client.post(f"/api/v1/{path}/", body), 400, "invalid")["errors"]
    assert told in {error["detail"] for error in errors}


def test_what_is_not_there_is_named_in_our_words(client: APIClient, acme: Tenant) -> None:
    for path in ("users", "orders", "jobs"):
        detail = checked(client.get(f"/api/v1/{path}/{acme.pk}/"), 404, "not_found")["detail"]
        assert "query" not in detail


def test_a_slug_is_found_in_any_case(public_client: APIClient, acme: Tenant) -> None:
    answer = public_client.get("/api/v1/tenants/ACME/")
    assert (answer.status_code, answer.json()["slug"]) == (200, "acme")


# What libraries refuse without a word


STYLE = "/static/admin/css/base.css"


@pytest.mark.django_db
@pytest.mark.parametrize("path", [STYLE, "/static/admin/js/core.js"])
def test_a_file_takes_no_other_method(path: str) -> None:
    answer = Client().post(path, headers={"host": "localhost"})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert_is_in_words(answer, "method_not_allowed")


@pytest.mark.django_db
def test_a_file_has_no_such_range() -> None:
    answer = Client().get(STYLE, headers={"host": "localhost", "range": "bytes=99999999-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"].startswith("bytes */")
    assert_is_in_words(answer, "range_not_satisfiable")


@pytest.mark.parametrize(
    ("status", "code"), [(400, "bad_request"), (404, "not_found"), (405, "method_not_allowed"), (418, "im_a_teapot")]
)
def test_any_refusal_without_a_body_is_the_problem_of_its_status(status: int, code: str) -> None:
    answer = RefusalMiddleware(lambda request: HttpResponse(status=status))(RequestFactory().get("/"))
    assert answer.status_code == status
    assert_is_in_words(answer, code)


@pytest.mark.parametrize("response", [HttpResponse(), HttpResponse(status=304), HttpResponse("No.", status=404)])
def test_any_other_answer_stays_as_it_is(response: HttpResponse) -> None:
    before = response.content
    assert RefusalMiddleware(lambda request: response)(RequestFactory().get("/")).content == before


def assert_is_in_words(answer: Any, code: str) -> None:
    content = answer.getvalue()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Content-Length"] == str(len(content))
    assert json.loads(content)["code"] == code
