"""The OpenAPI document of the server: its bodies are those that are read, so that it cannot say anything else.

Here: the document, in the form of OpenAPI 3.1. Not here: the bodies (requests.py).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from interlock import __version__
from runtime.serving.requests import UNSUPPORTED, ChatRequest, CompletionRequest

ERRORS = {
    400: "What is asked cannot be, or a parameter is not supported.", 401: "No key, or a wrong one.", 403: "Asked under another name.",
    404: "No such model.", 408: "The request took too long.", 413: "The body is too long.", 415: "The body is not declared as JSON.",
    429: "As many wait as may.", 500: "The model or the server failed.", 504: "The answer took too long.",
}  # fmt: skip
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {
    "type": "object", "required": ["message", "type", "param", "code"],
    "properties": {"message": _TEXT, "type": _TEXT, "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}},
}}}  # fmt: skip
_COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens", "latent_steps", "latent_slots", "latent_spans", "loops")
_USAGE = {
    "type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {**dict.fromkeys(_COUNTED, _COUNT),
                   "halt_probability": {"type": ["number", "null"], "minimum": 0, "maximum": 1}},
}  # fmt: skip
_ANSWER = {
    "type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {"id": _TEXT, "object": _TEXT, "created": _COUNT, "model": _TEXT, "choices": {"type": "array"}, "usage": _USAGE},
}  # fmt: skip
_MODEL = {"type": "object", "required": ["id", "object", "created", "owned_by"],
          "properties": {"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT}}  # fmt: skip


def _content(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {kind: {"schema": schema}}


def _responses(good: dict[str, Any], *errors: int) -> dict[str, Any]:
    told = {str(status): {"description": ERRORS[status], "content": _content({"$ref": "#/components/schemas/Error"})} for status in errors}
    return {"200": {"description": "The answer.", "content": good}, **told}


def _generation(name: str) -> dict[str, Any]:
    """A path that generates, from the body of that name."""
    return {"post": {
        "requestBody": {"required": True, "content": _content({"$ref": f"#/components/schemas/{name}"})},
        "responses": _responses(_content(_ANSWER) | _content(_TEXT, "text/event-stream"), *ERRORS),
    }}  # fmt: skip


def _get(good: dict[str, Any], *errors: int, secret: bool = True, **more: Any) -> dict[str, Any]:
    return {"get": {"responses": _responses(good, *((401,) if secret else ()), 403, *errors), **({} if secret else {"security": []}), **more}}


def _schemas(*bodies: type[BaseModel]) -> dict[str, Any]:
    found: dict[str, Any] = {"Error": _ERROR}
    for body in bodies:
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        neutral = {name: {"enum": [None, *values]} for name, values in UNSUPPORTED.items() if name not in schema["properties"]}
        optional = {name: _nullable(field, name in schema["required"]) for name, field in schema["properties"].items()}
        found[body.__name__] = schema | {"properties": optional | neutral}
    return found


def _nullable(field: dict[str, Any], required: bool) -> dict[str, Any]:
    """`null` stands for a field that is not there."""
    return field if required or {"type": "null"} in field.get("anyOf", ()) else {"anyOf": [field, {"type": "null"}]}


DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "interlock", "version": __version__, "description": "The OpenAI interface over one deployed student."},
    "security": [{"key": []}, {}],
    "paths": {
        "/v1/chat/completions": _generation("ChatRequest"),
        "/v1/completions": _generation("CompletionRequest"),
        "/v1/models": _get(_content({"type": "object", "required": ["data"], "properties": {"data": {"type": "array", "items": _MODEL}}})),
        "/v1/models/{name}": _get(_content(_MODEL), 404, parameters=[{"name": "name", "in": "path", "required": True, "schema": _TEXT}]),
        "/health": _get(_content({"type": "object", "required": ["status"]}), secret=False),
        "/metrics": _get(_content(_TEXT, "text/plain")),
    },
    "components": {
        "schemas": _schemas(ChatRequest, CompletionRequest),
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
    },
}
