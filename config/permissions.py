"""Who may do what: one table of roles and operations, which every view of the API asks.

docs/reference/permissions.md shows it, tests/isolation/ plays it. An operation without a row answers nobody.
"""

import re
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from rest_framework.filters import BaseFilterBackend
from rest_framework.permissions import BasePermission
from rest_framework.request import Request


class Reach(StrEnum):
    """What a role may use an operation for."""

    NO = "no"  # 403; 401 for who has no valid token
    OWN = "own"  # their own: what is somebody else's is not there
    YES = "yes"  # whatever the organisation has


class Row(NamedTuple):
    """What each role may use an operation for. Nobody is who has no valid token."""

    nobody: Reach
    member: Reach
    admin: Reach
    owner: Reach
    #: What is one's own, and what the operation refuses beyond the table
    note: str = ""


NO, OWN, YES = Reach
ROLES = ("nobody", "member", "admin", "owner")

# fmt: off
#: By the operation, as the schema has it. Who manages whom is in accounts/permissions.py.
TABLE: dict[str, Row] = {
    #                                      nobody member admin owner
    "GET /schema/":                    Row(YES,  YES,  YES,  YES),
    "GET /docs/":                      Row(YES,  YES,  YES,  YES),
    "POST /tenants/":                  Row(YES,  YES,  YES,  YES),
    "GET /tenants/{slug}/":            Row(YES,  YES,  YES,  YES),
    "GET /organisation/":              Row(NO,   YES,  YES,  YES),
    "PATCH /organisation/":            Row(NO,   NO,   NO,   YES),
    "POST /tokens/":                   Row(YES,  YES,  YES,  YES),
    "DELETE /tokens/current/":         Row(NO,   OWN,  OWN,  OWN, "the token of the request"),
    "POST /confirmations/":            Row(YES,  YES,  YES,  YES, "by a link that was mailed"),
    "POST /password-resets/":          Row(YES,  YES,  YES,  YES),
    "POST /passwords/":                Row(YES,  YES,  YES,  YES, "by a link that was mailed"),
    "GET /users/":                     Row(NO,   OWN,  YES,  YES, "themself"),
    "POST /users/":                    Row(NO,   NO,   YES,  YES, "only whom they manage"),
    "GET /users/{id}/":                Row(NO,   OWN,  YES,  YES, "themself"),
    "PATCH /users/{id}/":              Row(NO,   OWN,  YES,  YES, "themself, but for `role` and `is_active`; "
                                                                   "others only whom they manage"),
    "POST /users/{id}/link/":          Row(NO,   OWN,  YES,  YES, "themself"),
    "GET /users/me/":                  Row(NO,   OWN,  OWN,  OWN, "themself"),
    "PATCH /users/me/":                Row(NO,   OWN,  OWN,  OWN, "themself, but for `role` and `is_active`"),
    "GET /jobs/":                      Row(NO,   NO,   NO,   YES),
    "GET /jobs/{id}/":                 Row(NO,   YES,  YES,  YES),
    "POST /jobs/{id}/retry/":          Row(NO,   NO,   NO,   YES),
    "POST /jobs/{id}/cancellation/":   Row(NO,   NO,   NO,   YES),
    "GET /messages/":                  Row(NO,   OWN,  YES,  YES, "the mails to their address"),
    "GET /messages/{id}/":             Row(NO,   OWN,  YES,  YES, "the mails to their address"),
    "GET /orders/":                    Row(NO,   YES,  YES,  YES),
    "POST /orders/":                   Row(NO,   YES,  YES,  YES),
    "GET /orders/{id}/":               Row(NO,   YES,  YES,  YES),
    "POST /orders/{id}/payments/":     Row(NO,   YES,  YES,  YES),
    "POST /orders/{id}/cancellation/": Row(NO,   YES,  YES,  YES),
    "GET /invoices/":                  Row(NO,   YES,  YES,  YES),
    "GET /invoices/{id}/":             Row(NO,   YES,  YES,  YES),
    "GET /payments/":                  Row(NO,   YES,  YES,  YES),
    "GET /payments/{id}/":             Row(NO,   YES,  YES,  YES),
}
# fmt: on

PREFIX = "api/v1"
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)")
ARTICLES = {"owner": "an owner", "admin": "an admin", "member": "a member"}


class ByTable(BasePermission):
    """The permission of every view: what TABLE says of the operation and of the user's role."""

    def has_permission(self, request: Request, view: Any) -> bool:
        rows = _rows_asked(request, view)
        self.message = _refusal(rows)
        return any(reach_of(row, request.user) is not NO for row in rows)


class OwnRows(BaseFilterBackend):
    """The first filter of every view. Where TABLE says `own`, its queryset has what the view's `own` takes."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        sees_all = all(reach_of(row, request.user) is YES for row in _rows_asked(request, view))
        return queryset if sees_all else queryset.filter(view.own(request.user))


def reach_of(row: Row, user: Any) -> Reach:
    """How far a user gets with an operation. A role that is not in the table gets nowhere."""
    role = user.role if user.is_authenticated else "nobody"
    return Reach(row[ROLES.index(role)]) if role in ROLES else NO


def row_of(method: str, path: str) -> Row:
    """The row of an operation. Raises ImproperlyConfigured if there is none."""
    operation = f"{method} {path}"
    if operation not in TABLE:
        raise ImproperlyConfigured(
            f"{operation} has no row: add one to TABLE in config/permissions.py, and its case to tests/isolation/."
        )
    return TABLE[operation]


@cache
def path_of(route: str) -> str:
    """A route of Django's as the table writes it: `/users/{id}/` for `api/v1/users/<id:pk>/`."""
    path = PARAMETER.sub(lambda found: f"{{{found[1] or found[2]}}}", route.replace("^", "").removesuffix("$"))
    return path.replace("{pk}", "{id}").removeprefix(PREFIX)


def _rows_asked(request: Request, view: Any) -> list[Row]:
    """The row of the request's operation. OPTIONS, and a method that is not offered, ask for all rows of the path."""
    method = "GET" if request.method == "HEAD" else str(request.method)
    match: Any = request.resolver_match
    path = path_of(match.route)
    if method == "OPTIONS" or method not in view.allowed_methods:
        return [row for operation, row in TABLE.items() if operation.partition(" ")[2] == path]
    return [row_of(method, path)]


def _refusal(rows: list[Row]) -> str:
    allowed = [article for role, article in ARTICLES.items() if any(getattr(row, role) is not NO for row in rows)]
    return f"Only {' or '.join(allowed)} of the organisation may do that."
