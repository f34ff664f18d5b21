"""How each operation is tried, and with what. A new one needs its case here, and its row in config/permissions.py."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.apps import apps

from accounts.models import Link, User
from tests.isolation import organisations as things
from tests.isolation.organisations import ORDER, Organisation
from tests.people import PASSWORD

Body = dict[str, Any]
_numbers = itertools.count()


def nothing(of: Organisation, owner: User) -> str:
    return ""


@dataclass(frozen=True)
class Case:
    """A request that whoever may use the operation sends with success."""

    #: What its path or its list is about: made anew, for one of the organisation's users
    thing: Callable[[Organisation, User], str] = nothing
    body: Callable[[Organisation], Body] | None = None


def sign_up(of: Organisation) -> Body:
    return {"name": "Initech", "slug": f"initech{next(_numbers)}", "owner": person(of)}


def person(of: Organisation) -> Body:
    return {"email": f"ian{next(_numbers)}@initech.example", "full_name": "Ian Ink", "password": PASSWORD}


def credentials(of: Organisation) -> Body:
    return {"email": of.peer.email, "password": PASSWORD}


def confirmation(of: Organisation) -> Body:
    return {"link": things.link(of, Link.Purpose.CONFIRM_ADDRESS)}


def new_password(of: Organisation) -> Body:
    return {"link": things.link(of, Link.Purpose.SET_PASSWORD), "password": "another horse battery"}


CASES: dict[str, Case] = {
    "GET /schema/": Case(),
    "GET /docs/": Case(),
    "POST /tenants/": Case(body=sign_up),
    "GET /tenants/{slug}/": Case(things.slug),
    "GET /organisation/": Case(),
    "PATCH /organisation/": Case(body=lambda of: {"timezone": "Europe/Berlin"}),
    "POST /tokens/": Case(body=credentials),
    "DELETE /tokens/current/": Case(),
    "POST /confirmations/": Case(body=confirmation),
    "POST /password-resets/": Case(body=lambda of: {"email": of.peer.email}),
    "POST /passwords/": Case(body=new_password),
    "GET /users/": Case(things.user),
    "POST /users/": Case(body=lambda of: {**person(of), "role": "member"}),
    "GET /users/{id}/": Case(things.user),
    "PATCH /users/{id}/": Case(things.user, body=lambda of: {"full_name": "Ian Ink"}),
    "POST /users/{id}/link/": Case(things.unconfirmed),
    "GET /users/me/": Case(),
    "PATCH /users/me/": Case(body=lambda of: {"full_name": "Ian Ink"}),
    "GET /jobs/": Case(things.waiting_job),
    "GET /jobs/{id}/": Case(things.waiting_job),
    "POST /jobs/{id}/retry/": Case(things.dead_job),
    "POST /jobs/{id}/cancellation/": Case(things.waiting_job),
    "GET /messages/": Case(things.message),
    "GET /messages/{id}/": Case(things.message),
}
if apps.is_installed("billing"):
    CASES |= {
        "GET /orders/": Case(things.order),
        "POST /orders/": Case(body=lambda of: ORDER),
        "GET /orders/{id}/": Case(things.order),
        "POST /orders/{id}/payments/": Case(things.order, body=lambda of: {"payment_token": "tok_ok"}),
        "POST /orders/{id}/cancellation/": Case(things.order),
        "GET /invoices/": Case(things.invoice),
        "GET /invoices/{id}/": Case(things.invoice),
        "GET /payments/": Case(things.payment),
        "GET /payments/{id}/": Case(things.payment),
    }

#: For each parameter of a list, a value that finds what another tenant has: made of a row of its list.
FILTERS: dict[str, Callable[[Organisation, dict[str, Any]], str]] = {
    "created_after": lambda of, row: row["created_at"],
    "created_before": lambda of, row: row["created_at"],
    "updated_after": lambda of, row: row["updated_at"],
    "updated_before": lambda of, row: row["updated_at"],
    "email": lambda of, row: row["email"].upper(),
    "role": lambda of, row: row["role"],
    "is_active": lambda of, row: str(row["is_active"]).lower(),
    "state": lambda of, row: row["state"],
    "task": lambda of, row: row["task"],
    "to": lambda of, row: row["to"].upper(),
    "status": lambda of, row: row["status"],
    "currency": lambda of, row: row["currency"],
    "number": lambda of, row: row["number"],
    "order": lambda of, row: row["order"],
    "invoice": lambda of, row: row["invoice"],
    "placed_by": lambda of, row: str(of.peer.pk),
}
#: These turn the pages of a list; the tests of cursors have them all.
PAGING = {"cursor", "page_size", "ordering"}

#: For each header that a client may send, values that speak for globex; `{secret}` is a token of its owner.
HEADERS: dict[str, list[str]] = {
    "accept": ["application/json; tenant=globex"],
    "authorization": ["Bearer {secret}", "bearer {secret}", "Bearer {mine} {secret}", "Bearer {mine}, Bearer {secret}"],
    "content-type": ["application/json; tenant=globex"],
    "idempotency-key": ["globex"],
    "if-modified-since": ["Thu, 01 Jan 1970 00:00:00 GMT"],
    "if-none-match": ['"globex"', "*"],
    "tenant": ["globex", "GLOBEX", " globex ", "globex,acme", "acme,globex", "acme;globex", "globex.localhost"],
    "x-request-id": ["globex"],
}
#: As those, and of no meaning here: what proxies, frameworks and other products listen to.
IGNORED: dict[str, list[str]] = {
    "cookie": ["tenant=globex; sessionid=globex", "Authorization=Bearer {secret}"],
    "forwarded": ["host=globex.localhost", 'for=127.0.0.1;host="globex.localhost"'],
    "origin": ["http://globex.localhost"],
    "referer": ["http://globex.localhost/"],
    "x-auth-token": ["{secret}"],
    "x-forwarded-host": ["globex.localhost", "acme.localhost, globex.localhost"],
    "x-forwarded-prefix": ["/globex"],
    "x-forwarded-server": ["globex.localhost"],
    "x-host": ["globex.localhost"],
    "x-http-method-override": ["DELETE"],
    "x-original-host": ["globex.localhost"],
    "x-original-url": ["http://globex.localhost/api/v1/users/"],
    "x-rewrite-url": ["http://globex.localhost/api/v1/users/"],
    "x-tenant": ["globex"],
}

#: Fields of bodies that hold an id. There is none: a body that names a thing needs a test of its own.
IDS_IN_BODIES: set[str] = set()

#: What hosts serve besides the API: the page of a mailed link, which does what the API does with it; the admin, whose
#: rights are Django's and which has its own tests; the front page, and `nowhere`.
OUTSIDE = {"api/v1/", "link/", "admin/", ""}
