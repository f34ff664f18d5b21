"""What drf-spectacular can't see: how each operation may fail, how a tenant is named, and a line that tells of it.

An operation lists each status that it can answer. A problem's codes are the keys of that answer's `examples`.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from drf_spectacular.openapi import AutoSchema

from config.codes import REGISTRY
from config.examples import EXAMPLES
from config.openapi_headers import HEADERS, with_headers
from config.permissions import PREFIX, Reach, row_of
from config.problems import MEDIA_TYPE, problem
from tenants.middleware import HEADER

#: Every request can fail like this: whatever it takes, unknown parameters and odd bodies are refused. 417, 501 and 505
#: are left out: they tell of how HTTP is spoken, and the server answers them before it looks at the address.
ALWAYS = {
    "bad_host",
    "bad_request",
    "invalid",
    "not_found",
    "not_acceptable",
    "request_timeout",
    "length_required",
    "too_large",
    "uri_too_long",
    "unsupported_media_type",
    "headers_too_large",
    "throttled",
    "server_error",
    "database_away",
    "database_busy",
}
#: What the host of a tenant adds.
TENANT = {
    "bad_tenant",
    "tenant_mismatch",
    "tenant_not_found",
    "tenant_suspended",
    "tenant_deleting",
    "tenant_provisioning",
    "tenant_failed",
}
TOKEN = {"not_authenticated", "authentication_failed", "invalid_token"}
IDEMPOTENCY_KEY = {"bad_idempotency_key", "request_in_progress", "idempotency_key_reused"}
#: These operations are the public host's.
PUBLIC = "/api/v1/tenants/"

ERROR = {
    "type": "object",
    "description": "One thing that is wrong, and where: in the body (`pointer`) or in the query (`parameter`).",
    "properties": {
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "For programs", "example": "required"},
        "pointer": {"type": "string", "description": "JSON pointer, as a fragment", "example": "#/lines/0/quantity"},
        "parameter": {"type": "string", "example": "cursor"},
    },
    "required": ["detail", "code"],
}
PROBLEM = {
    "type": "object",
    "description": "An error, as RFC 9457 has it. There may be codes that this page doesn't list yet.",
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "A page of this host that explains the code",
            "example": "/problems/slug_taken",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "For programs", "example": "slug_taken"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/ProblemError"}},
    },
    "required": ["type", "title", "status", "detail", "code"],
}
NOT_MODIFIED = {"description": "The client has this answer already: `If-None-Match` has the `ETag` that came with it"}
# A security scheme, because those are what clients and Swagger UI set once for all operations.
TENANT_HEADER = {
    "type": "apiKey",
    "in": "header",
    "name": HEADER,
    "description": "The organisation's slug, such as `acme`: on the public host, instead of the organisation's own "
    "host. Set it once, for all requests; sign-up, status and the schema ignore it.",
}

#: What holds for all texts, and can't be said at each of them.
TEXTS = (
    "\n\nTexts hold more than spaces and no control characters, and are one line. E-mail "
    "addresses and date-times are checked further than their `format`. Every host explains "
    "each problem's `code` at its `type`, and lists all at `/problems/`."
)


class Schema(AutoSchema):
    """drf-spectacular's, with each operation's summary and failures."""

    def get_summary(self) -> str:
        """The first sentence of the method's docstring; of a mixin's method, a line of ours."""
        match getattr(self.view, "action", None):
            case "list":
                return f"List {self._plural()}"
            case "retrieve":
                return f"Read one of the {self._plural()}"
        return _first_sentence(self.get_description())

    def _plural(self) -> str:
        view: Any = self.view
        return str(view.queryset.model._meta.verbose_name_plural)

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is not None:
            for parameter in operation.get("parameters", []):
                self._bound(parameter)
            if self.method == "GET":
                operation["responses"]["304"] = NOT_MODIFIED
            responses = operation["responses"] | _failures(self._codes(operation))
            operation["responses"] = {
                status: with_headers(self.method, status, response) for status, response in responses.items()
            }
        return operation

    def _bound(self, parameter: dict[str, Any]) -> None:
        """A parameter of the query has a value, or is left out. A page's size has its limits."""
        schema = parameter["schema"]
        if parameter["in"] != "query":
            return
        if schema.get("type") == "string" and not schema.keys() & {"enum", "format"}:
            schema["minLength"] = 1
        pages: Any = getattr(self.view, "paginator", None)
        if pages is not None and parameter["name"] == pages.page_size_query_param:
            schema |= {"minimum": 1, "maximum": pages.max_page_size}

    def _codes(self, operation: dict[str, Any]) -> set[str]:
        parameters = {parameter["name"] for parameter in operation.get("parameters", [])}
        codes = {*ALWAYS, *self._declared()}
        if not self.path.startswith(PUBLIC):
            codes |= TENANT
        row = row_of(self.method, self.path.removeprefix(f"/{PREFIX}"))
        if row.nobody is Reach.NO:
            codes |= TOKEN
        if Reach.NO in (row.member, row.admin, row.owner):
            codes.add("permission_denied")
        if self.method != "GET":
            codes.add("parse_error")
        if "Idempotency-Key" in parameters:
            codes |= IDEMPOTENCY_KEY
        return codes

    def _declared(self) -> Iterable[str]:
        """What `@answers` names."""
        method = getattr(self.view, getattr(self.view, "action", None) or self.method.lower())
        codes: tuple[str, ...] = getattr(method, "codes", ())
        return codes


def _first_sentence(text: str) -> str:
    return text.partition("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")


def _failures(codes: Iterable[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in sorted(codes):
        by_status[REGISTRY[code].status].append(code)
    return {str(status): _failure(listed) for status, listed in sorted(by_status.items())}


def _failure(codes: list[str]) -> dict[str, Any]:
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }


def add_components(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """drf-spectacular's postprocessing hook: what the operations refer to, and an example of each body."""
    schemas = result["components"]["schemas"]
    for name in schemas.keys() & EXAMPLES.keys():
        schemas[name]["example"] = EXAMPLES[name]
    schemas |= {"Problem": PROBLEM, "ProblemError": ERROR}
    result["info"]["description"] += TEXTS
    result["components"]["headers"] = HEADERS
    result["components"]["examples"] = {code: _example(code) for code in sorted(REGISTRY)}
    return result


def _example(code: str) -> dict[str, Any]:
    known = REGISTRY[code]
    wrong = {"detail": "This field is required.", "code": "required", "pointer": "#/name"}
    errors = [wrong] if code == "invalid" else None
    value = problem(known.status, code=code, detail=known.meaning, errors=errors)
    return {"summary": known.title, "description": known.remedy, "value": value}


def describe_tenants(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """drf-spectacular's postprocessing hook: every operation takes the tenant's header, and none insists on it."""
    result["components"].setdefault("securitySchemes", {})["tenant"] = TENANT_HEADER
    result["security"] = [{}, {"tenant": []}]
    for operations in result["paths"].values():
        for operation in operations.values():
            requirements = [item for item in operation.pop("security", []) if item]
            # What needs no token has nothing of its own: generators take that for a token.
            if requirements:
                operation["security"] = [*requirements, *({**item, "tenant": []} for item in requirements)]
    return result
