"""What a browser may do with an answer, and who may keep it: every answer says so, whatever made it."""

import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from django.contrib import admin
from django.test import override_settings
from django.urls import path as route
from rest_framework.test import APIClient

from config import urls
from tenants.models import Tenant
from tests.people import PASSWORD, add_staff, add_user, client_of, client_of_staff

EXPECTED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
PERSON = {"email": "ann@acme.example", "full_name": "Ann Ash", "password": PASSWORD}


def explode(request: Any) -> Any:
    raise RuntimeError("a fault of ours")


class Broken:
    """URLs of a tenant's host, with a view that fails."""

    urlpatterns = [route("explode/", explode), *urls.urlpatterns]  # noqa: RUF012  # as Django reads it
    handler400, handler403 = urls.handler400, urls.handler403
    handler404, handler500 = urls.handler404, urls.handler500


def ask(path: str, *, host: str = "acme.localhost", method: str = "GET", length: int = 2, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client = APIClient(headers={"host": host, **named}, raise_request_exception=False)
    return client.generic(
        method, path, "" if method == "GET" else "{}", content_type="application/json", CONTENT_LENGTH=str(length)
    )


# How to ask, and the status
ANSWERS: dict[str, tuple[Callable[[], Any], int]] = {
    "health": (lambda: ask("/livez"), 200),
    "readiness": (lambda: ask("/readyz", host="10.0.0.7"), 200),
    "a problem's page": (lambda: ask("/problems/not_found"), 200),
    "no problem's page": (lambda: ask("/problems/none"), 404),
    "a static file": (lambda: ask("/static/admin/css/base.css", host="localhost"), 200),
    "no static file": (lambda: ask("/static/none.css", host="localhost"), 404),
    "the admin's login": (lambda: ask("/admin/login/", host="localhost"), 200),
    "the admin's redirect": (lambda: ask("/admin/", host="localhost"), 302),
    "the admin's forms": (lambda: ask("/admin/login/", host="localhost", method="POST"), 200),
    "docs": (lambda: ask("/api/v1/docs/", accept="text/html"), 200),
    "their script": (lambda: ask("/api/v1/docs/?script=1"), 200),
    "the schema": (lambda: ask("/api/v1/schema/"), 200),
    "a preflight": (lambda: ask("/api/v1/users/", method="OPTIONS", origin="https://app.example"), 401),
    "no token": (lambda: ask("/api/v1/users/"), 401),
    "a bad token": (lambda: ask("/api/v1/users/", authorization="Bearer x"), 401),
    "a bad login": (lambda: ask("/api/v1/tokens/", method="POST"), 400),
    "a bad host": (lambda: ask("/api/v1/users/", host="elsewhere.example"), 400),
    "no tenant": (lambda: ask("/api/v1/users/", host="nobody.localhost"), 404),
    "a bad header": (lambda: ask("/api/v1/users/", host="localhost", tenant="?"), 400),
    "nowhere": (lambda: ask("/nowhere"), 404),
    "a method that is not there": (lambda: ask("/api/v1/schema/", method="POST"), 405),
    "a type that is not there": (lambda: ask("/api/v1/schema/", accept="text/csv"), 406),
    "a body too large": (lambda: ask("/api/v1/tokens/", method="POST", length=9_999_999), 413),
    "a coded body": (lambda: ask("/api/v1/tokens/", method="POST", content_encoding="gzip"), 415),
    "a fault of ours": (lambda: ask("/explode/"), 500),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_every_answer_is_safe_in_a_browser(acme: Tenant, case: str) -> None:
    with override_settings(ROOT_URLCONF=Broken), closing(ANSWERS[case][0]()) as answer:
        assert answer.status_code == ANSWERS[case][1]
        assert {name: answer[name] for name in EXPECTED} == EXPECTED
        assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
        assert "unsafe" not in answer["Content-Security-Policy"]
        assert "camera=()" in answer["Permissions-Policy"]


def test_a_page_of_the_traceback_may_style_itself(acme: Tenant) -> None:
    with override_settings(ROOT_URLCONF=Broken, DEBUG=True):
        answer = ask("/explode/")
    assert (answer.status_code, "Content-Security-Policy" in answer) == (500, False)
    assert answer["X-Frame-Options"] == "DENY"


# Pages run their own files alone


INLINE = re.compile(
    r"<style|<[^>]+\s(?:style|on[a-z]+)=|href=[\"']?javascript:|<script(?![^>]*\ssrc=)(?![^>]*json)", re.I
)
FOREIGN = re.compile(r"""(?:src|href|action)=["']?(?:https?:)?//(?!localhost|acme\.localhost)""", re.IGNORECASE)


def pages_of_the_admin() -> list[str]:
    lists = [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry]
    return ["/admin/login/", "/admin/", "/admin/password_change/", *lists, *(f"{each}add/" for each in lists)]


def is_clean(page: str) -> bool:
    return INLINE.search(page) is None and FOREIGN.search(page) is None


def test_the_pattern_finds_what_stands_in_a_page() -> None:
    for bad in (
        "<style>", '<p class="x" style="a">', "<a onclick='x()'>", "<script>x()</script>", '<script id="a">',
        '<a href="javascript:x()">', '<script src="https://cdn.example/x.js"></script>',
    ):  # fmt: skip
        assert not is_clean(bad), bad
    for good in ('<script src="/x.js"></script>', '<script id="a" type="application/json">{}</script>'):
        assert is_clean(good), good


def test_the_admins_pages_have_no_script_or_style_inside(acme: Tenant) -> None:
    client = client_of_staff(add_staff())
    answers = {path: client.get(path) for path in pages_of_the_admin()}
    opened = {path: answer.content.decode() for path, answer in answers.items() if answer.status_code == 200}
    assert len(opened) > 20
    assert "/admin/django_celery_beat/periodictask/add/" in opened
    assert [path for path, page in opened.items() if not is_clean(page)] == []
    # They are pages about people.
    assert [path for path, answer in answers.items() if "no-store" not in answer["Cache-Control"]] == []


@pytest.mark.parametrize("host", ["localhost", "acme.localhost"])
def test_neither_have_docs_and_problems(acme: Tenant, host: str) -> None:
    for path in ("/api/v1/docs/", "/problems/", "/problems/invalid"):
        page = ask(path, host=host, accept="text/html").content.decode()
        assert page.count("<link") >= 1
        assert is_clean(page), path


def test_the_docs_script_is_a_script(acme: Tenant) -> None:
    page = ask("/api/v1/docs/", accept="text/html").content.decode()
    [*_, own] = re.findall(r'<script src="([^"]+)"', page)
    script = ask(f"/api/v1/docs/{own}", accept="*/*")
    assert (script.status_code, script["Content-Type"]) == (200, "application/javascript")
    assert "SwaggerUIBundle({" in script.content.decode()
    assert '"validatorUrl": null' in script.content.decode()


@pytest.mark.parametrize("file", ["config/docs.css", "config/problems.css", "jobs/crontab_help.js"])
def test_what_the_pages_ask_for_is_served(db: None, file: str) -> None:
    with closing(ask(f"/static/{file}")) as answer:
        assert answer.status_code == 200


# Who may keep it


def test_what_is_asked_for_is_kept_by_its_reader_alone(acme: Tenant) -> None:
    client = client_of(acme, add_user(acme, "ada", "owner"))
    for path in ("users/", "users/me/", "organisation/", "jobs/", "messages/"):
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer["Cache-Control"], "ETag" in answer) == (200, "private, no-cache", True)
    for path in ("users/x/", "nowhere/", f"users/{acme.pk}/"):
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer["Cache-Control"], "ETag" in answer) == (404, "private, no-cache", False)


def test_what_may_hold_a_secret_is_kept_by_nobody(acme: Tenant, public_client: APIClient) -> None:
    client = client_of(acme, add_user(acme, "ada", "owner"))
    answers = [
        client.post("/api/v1/tokens/", {"email": "ada@acme.example", "password": PASSWORD}),
        client.post("/api/v1/tokens/", {"email": "ada@acme.example", "password": "wrong"}),
        client.post("/api/v1/users/", {**PERSON, "role": "member"}, headers={"idempotency-key": "one"}),
        client.post("/api/v1/users/", {**PERSON, "role": "member"}, headers={"idempotency-key": "one"}),
        client.patch("/api/v1/users/me/", {"full_name": "Ada Ash"}),
        client.delete("/api/v1/tokens/current/"),
        public_client.post("/api/v1/tenants/", {"name": "Initech", "slug": "initech", "owner": PERSON}),
    ]
    assert [answer.status_code for answer in answers] == [201, 401, 201, 201, 200, 204, 202]
    assert [answer["Cache-Control"] for answer in answers] == ["no-store"] * 7
    assert not any("ETag" in answer for answer in answers)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/nowhere", "/problems/", "/admin/"])
def test_what_says_nothing_of_it_is_kept_by_nobody(db: None, path: str) -> None:
    assert ask(path)["Cache-Control"] == "no-store"
