"""Every operation that the API offers, from its router, and how to send one."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rest_framework.test import APIClient

from config import api
from config.permissions import PREFIX, path_of
from config.queries import known_parameters
from tests import contract
from tests.isolation.cases import CASES
from tests.isolation.organisations import Organisation

PARAMETER = re.compile(r"\{\w+\}")


def _operations(patterns: list[Any]) -> dict[str, Any]:
    return {
        f"{method} {path_of(f'{PREFIX}/{pattern.pattern}')}": pattern.callback
        for pattern in patterns
        for method in _methods(pattern.callback)
    }


def _methods(view: Any) -> list[str]:
    """Of one of DRF's views. HEAD and OPTIONS come by themselves."""
    names = getattr(view, "actions", None) or [name for name in view.cls.http_method_names if hasattr(view.cls, name)]
    return sorted({name.upper() for name in names} - {"HEAD", "OPTIONS"})


PUBLIC = _operations(api.public_urls)
TENANT = _operations(api.tenant_urls)
#: Each operation, with its view
OPERATIONS = {**PUBLIC, **TENANT}
PATHS = sorted({operation.partition(" ")[2] for operation in OPERATIONS})


def parameters(operation: str) -> set[str]:
    """The names that may stand in its query."""
    return set(known_parameters(OPERATIONS[operation], operation.partition(" ")[0]))


#: Operations that answer pages of what there is
LISTS = sorted(operation for operation in OPERATIONS if "page_size" in parameters(operation))


def described(operation: str) -> dict[str, Any]:
    """What the schema says of it."""
    method, path = operation.split()
    terms: dict[str, Any] = contract.operations()[path][method.lower()]
    return terms


def answered_by_public_host(operation: str, way: str) -> bool:
    """Whether it is the public host's own answer, when a request names its tenant in this way."""
    return operation not in TENANT or (operation in PUBLIC and way == "header")


def url_of(operation: str, thing: str = "") -> str:
    return f"/{PREFIX}{PARAMETER.sub(thing, operation.partition(' ')[2])}"


def send(
    client: APIClient,
    operation: str,
    of: Organisation,
    *,
    thing: str = "",
    body: dict[str, Any] | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """Send the operation's case, with this thing in its path, where its host is."""
    case = CASES[operation]
    if body is None and case.body is not None:
        body = case.body(of)
    host = {} if operation in TENANT else {"host": "localhost"}
    method = getattr(client, operation.partition(" ")[0].lower())
    return method(url_of(operation, thing), body, headers={**host, **headers})


def outcome(answer: Any) -> str:
    """`yes`, or the code of the problem."""
    return "yes" if answer.status_code < 400 else str(answer.json()["code"])
