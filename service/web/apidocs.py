"""The API reference, rendered from the service's own OpenAPI document: no script, no network, no CDN."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.web.rendering.templating import render

router = APIRouter(include_in_schema=False)
_METHODS = ("get", "head", "put", "post", "patch", "delete", "options")
_DEPTH = 3


@dataclass(frozen=True)
class Parameter:
    """One parameter or one property of a body. `level` indents nested ones."""

    name: str
    where: str
    kind: str
    required: bool
    text: str
    level: int = 0


@dataclass(frozen=True)
class Operation:
    """One method on one path."""

    method: str
    path: str
    anchor: str
    summary: str
    text: str
    parameters: list[Parameter] = field(default_factory=list)
    bodies: list[tuple[str, list[Parameter], str]] = field(default_factory=list)
    answers: list[tuple[str, str, str]] = field(default_factory=list)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """All operations, grouped by tag."""
    document = request.app.openapi()
    return render(request, "apidocs.html", info=document["info"], groups=groups(document))


def groups(document: Mapping[str, Any]) -> list[tuple[str, str, list[Operation]]]:
    """(tag, its description, operations) in the document's order."""
    found: dict[str, list[Operation]] = {}
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                found.setdefault(tag, []).append(_operation(document, path, method, item))
    texts = {tag["name"]: tag.get("description", "") for tag in document.get("tags", [])}
    return [(tag, texts.get(tag, ""), operations) for tag, operations in found.items()]


def _operation(document: Mapping[str, Any], path: str, method: str, item: Mapping[str, Any]) -> Operation:
    spec = item[method]
    listed = [*item.get("parameters", []), *spec.get("parameters", [])]
    body = resolved(document, spec.get("requestBody", {}))
    return Operation(
        method=method.upper(),
        path=path,
        anchor=spec.get("operationId") or f"{method}-{path.strip('/').replace('/', '-')}",
        summary=spec.get("summary", ""),
        text=spec.get("description", ""),
        parameters=[_parameter(document, resolved(document, row)) for row in listed],
        bodies=[
            (kind, list(properties(document, media.get("schema", {}))), _example(document, media))
            for kind, media in body.get("content", {}).items()
        ],
        answers=[
            _answer(status, resolved(document, row)) for status, row in spec.get("responses", {}).items()
        ],
    )


def _parameter(document: Mapping[str, Any], row: Mapping[str, Any]) -> Parameter:
    schema = resolved(document, row.get("schema", {}))
    text = row.get("description") or schema.get("description", "")
    return Parameter(row["name"], row["in"], kind_of(document, schema), bool(row.get("required")), text)


def _answer(status: str, row: Mapping[str, Any]) -> tuple[str, str, str]:
    return status, row.get("description", ""), ", ".join(row.get("content", {}))


def _example(document: Mapping[str, Any], media: Mapping[str, Any]) -> str:
    named = [entry.get("value") for entry in (media.get("examples") or {}).values()]
    in_schema = resolved(document, media.get("schema", {})).get("examples", [])
    value = next((example for example in (media.get("example"), *named, *in_schema) if example), None)
    return json.dumps(value, indent=2, ensure_ascii=False) if value is not None else ""


def properties(document: Mapping[str, Any], schema: Mapping[str, Any], level: int = 0) -> Iterator[Parameter]:
    """A body's properties, nested ones below their parents, three levels deep."""
    schema = resolved(document, schema)
    required = schema.get("required", [])
    for name, raw in schema.get("properties", {}).items():
        spec = resolved(document, raw)
        text = raw.get("description") or spec.get("description", "")
        yield Parameter(name, "body", kind_of(document, raw), name in required, text, level)
        inner = spec if "properties" in spec else resolved(document, spec.get("items", {}))
        if "properties" in inner and level + 1 < _DEPTH:
            yield from properties(document, inner, level + 1)


def resolved(document: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    """The schema behind a `$ref` into the same document."""
    for _ in range(8):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            break
        target: Any = document
        for step in str(schema["$ref"]).lstrip("#/").split("/"):
            target = target.get(step.replace("~1", "/").replace("~0", "~"), {})
        schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
    return dict(schema) if isinstance(schema, Mapping) else {}


def kind_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema's type in a few words."""
    schema = resolved(document, schema)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(kind_of(document, part) for part in schema[word]))
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {kind_of(document, schema.get('items', {}))}"
    kind = str(schema.get("type") or schema.get("title") or "any")
    return f"{kind} ({schema['format']})" if "format" in schema else kind
