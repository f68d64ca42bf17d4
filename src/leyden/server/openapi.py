"""The HTTP contract as one OpenAPI 3.1 document: FastAPI's routes, and beside them the hot ones that FastAPI never sees.

`openapi.json` at the root of the repository is this document, written by `make openapi`; a test keeps the two equal. Bodies
that a route reads itself (`body_of`, the hot routes) are described by the very type that reads them.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from leyden.server.hot import Handler, Routes, Shape, shape_of

REF = "#/components/schemas/{}"
Json = dict[str, Any]

ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": ["string", "null"]},
            },
        },
        "detail": {
            "description": "the text, or the list of places, that clients of the store protocol look for"
        },
    },
}
REFUSED: Json = {
    "description": "Refused: what happened, to what, and what to do",
    "content": {"application/json": {"schema": {"$ref": REF.format("Error")}}},
}
ANY_JSON: Json = {"application/json": {"schema": {}}}
METHODS = ("get", "post", "put", "patch", "delete")


def document(api: FastAPI, routers: Sequence[APIRouter], hot: Routes) -> Json:
    """The whole contract: the routes of `routers`, all of which `api` includes, and the `hot` ones served beside it."""
    found = get_openapi(title=api.title, version=api.version, summary="Leyden's HTTP API", routes=api.routes)
    schemas: Json = found.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"] = ERROR
    found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{}, {"key": []}]
    for route in (each for router in routers for each in router.routes if isinstance(each, APIRoute)):
        model = _body_model(route.dependant)
        if model is not None:
            for method in route.methods or ():
                operation = found["paths"][route.path_format][method.lower()]
                operation["requestBody"] = _json_body(_schema(model, schemas))
    for (method, path), handler in hot.items():
        path = path.replace("{}", "{rollout_id}", 1).replace("{}", "{attempt_id}", 1)
        found["paths"].setdefault(path, {})[method.lower()] = _operation(method, path, handler, schemas)
    for operations in found["paths"].values():
        for method in METHODS:
            if method in operations:
                operations[method]["responses"].pop("422", None)
                operations[method]["responses"]["default"] = REFUSED
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    return {**found, "paths": dict(sorted(found["paths"].items()))}


def _body_model(dependant: Dependant) -> type[BaseModel] | None:
    """The model that a route reads its body into with `body_of`."""
    models = (getattr(each.call, "model", None) for each in dependant.dependencies)
    return next((model for model in models if model is not None), None)


def _operation(method: str, path: str, handler: Handler, schemas: Json) -> Json:
    shape = shape_of(handler)
    said = inspect.getdoc(handler) or ""
    name = handler.__name__  # pyright: ignore[reportFunctionMemberAccess]
    operation: Json = {
        "tags": [handler.__module__.rsplit(".", 1)[-1]],
        "summary": said.partition(": ")[2].split("\n")[0] or said,
        "operationId": f"{name}_{method.lower()}_{path.strip('/').replace('/', '_').replace('{', '').replace('}', '')}",
        "responses": {str(shape.status): {"description": "Done", "content": _answer(shape)}},
    }
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": each, "in": "path", "required": True, "schema": {"type": "string"}} for each in names
        ]
    if shape.query is not None:
        operation.setdefault("parameters", []).extend(_query(shape.query, schemas))
    if shape.body is not None:
        operation["requestBody"] = _json_body(_schema(shape.body, schemas))
    if shape.media:
        content = operation.setdefault("requestBody", {"required": True, "content": {}})["content"]
        content |= {media: {"schema": {"type": "string", "format": "binary"}} for media in shape.media}
    return operation


def _answer(shape: Shape) -> Json:
    return ANY_JSON | {media: {"schema": {"type": "string", "format": "binary"}} for media in shape.media}


def _json_body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _schema(kind: Any, schemas: Json) -> Json:
    """The JSON schema of a body; what it refers to is added to the components."""
    if isinstance(kind, dict):
        return kind  # pyright: ignore[reportUnknownVariableType]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = kind.model_json_schema(ref_template=REF.format("{model}"))
        schemas.update(found.pop("$defs", {}))
        schemas[kind.__name__] = found
        return {"$ref": REF.format(kind.__name__)}
    (found,), parts = msgspec.json.schema_components([kind], ref_template=REF.format("{name}"))
    schemas.update(parts)
    return found


def _query(model: type[BaseModel], schemas: Json) -> list[Json]:
    found = model.model_json_schema(ref_template=REF.format("{model}"))
    schemas.update(found.pop("$defs", {}))
    required = found.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in found["properties"].items()
    ]
