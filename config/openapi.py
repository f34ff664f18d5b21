"""What drf-spectacular can't see: the errors, which config/problems.py makes."""

from typing import Any

from config.problems import MEDIA_TYPE

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


def describe_errors(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """drf-spectacular's postprocessing hook: every operation may answer with a problem."""
    result["components"]["schemas"] |= {"Problem": PROBLEM, "ProblemError": ERROR}
    result["components"]["responses"] = {"Problem": RESPONSE}
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    return result
