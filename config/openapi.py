"""What drf-spectacular can't see: the errors, which config/problems.py makes, and how a request names its tenant."""

from typing import Any

from config.problems import MEDIA_TYPE
from tenants.middleware import HEADER

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
    "description": "An error, as RFC 9457 has it.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "For programs", "example": "slug_taken"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/ProblemError"}},
    },
    "required": ["type", "title", "status", "detail", "code"],
}
RESPONSE = {
    "description": "Any error",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
# A security scheme, because those are what clients and Swagger UI set once for all operations.
TENANT = {
    "type": "apiKey",
    "in": "header",
    "name": HEADER,
    "description": "The organisation's slug, such as `acme`: on the public host, instead of the organisation's own "
    "host. Set it once, for all requests; sign-up, status and the schema ignore it.",
}


def describe_errors(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """drf-spectacular's postprocessing hook: every operation may answer with a problem."""
    result["components"]["schemas"] |= {"Problem": PROBLEM, "ProblemError": ERROR}
    result["components"]["responses"] = {"Problem": RESPONSE}
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    return result


def describe_tenants(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """drf-spectacular's postprocessing hook: every operation takes the tenant's header, and none insists on it."""
    result["components"].setdefault("securitySchemes", {})["tenant"] = TENANT
    result["security"] = [{}, {"tenant": []}]
    for operations in result["paths"].values():
        for operation in operations.values():
            requirements = [item for item in operation.pop("security", []) if item]
            # What needs no token has nothing of its own: generators take that for a token.
            if requirements:
                operation["security"] = [*requirements, *({**item, "tenant": []} for item in requirements)]
    return result
