"""The options form, made from `FoldOptions`: a new option appears without a change here.

Each field becomes one `Field`; `static/options.js` turns the filled-in form back into the JSON body by the
field's `kind`. What the inspection knows (inputs, outputs, signatures) is offered as choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from folding.options import FoldOptions, Group
from folding.report import Inspection, TensorInfo

Kind = Literal["flag", "choice", "integer", "number", "text", "names", "picks", "shapes", "renames", "feeds"]

# Order of the groups on the page: what most people change comes first.
ORDER = (Group.ARTIFACT, Group.READING, Group.STATISTICS, Group.VERIFICATION)

# The schema leaves out what default factories make.
_DEFAULTS = FoldOptions().model_dump(mode="json")


@dataclass(frozen=True)
class Field:
    """One control. `choices` are (value, label) pairs; `rows` are (name, dtype, shape) for inputs."""

    name: str
    title: str
    help: str
    kind: Kind
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    choices: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[str, str, str]] = field(default_factory=list)


def options_form(
    inspection: Inspection | None = None, providers: Sequence[str] = ("cpu",)
) -> list[tuple[str, list[Field]]]:
    """The form: (group title, fields) in order. `providers` are those that the service offers."""
    schema = FoldOptions.model_json_schema()
    fields = {
        name: _offer(_field(name, _resolved(spec, schema)), inspection, providers)
        for name, spec in schema["properties"].items()
    }
    return [
        (str(group), [item for name, item in fields.items() if FoldOptions.shown(name).group is group])
        for group in ORDER
    ]


def _resolved(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The property without `$ref` and without the null of optional ones."""
    if "$ref" in spec:
        spec = {**schema["$defs"][spec["$ref"].rsplit("/", 1)[1]], **spec}
    options = [part for part in spec.get("anyOf", []) if part.get("type") != "null"]
    return {**spec, **options[0]} if len(options) == 1 else dict(spec)


def _field(name: str, spec: Mapping[str, Any]) -> Field:
    return Field(
        name=name,
        title=FoldOptions.shown(name).title,
        help=spec.get("description", ""),
        kind=_kind(spec),
        default=_DEFAULTS.get(name),
        minimum=spec.get("minimum"),
        maximum=spec.get("maximum", spec.get("exclusiveMaximum")),
        choices=[(str(value), str(value)) for value in spec.get("enum", [])],
    )


def _kind(spec: Mapping[str, Any]) -> Kind:
    if "enum" in spec:
        return "choice"
    if spec.get("type") == "object":
        values: dict[str, Kind] = {"array": "shapes", "string": "renames"}
        return values.get(spec.get("additionalProperties", {}).get("type"), "feeds")
    simple: dict[str, Kind] = {"boolean": "flag", "integer": "integer", "number": "number", "array": "names"}
    return simple.get(spec.get("type", ""), "text")


def _offer(item: Field, inspection: Inspection | None, providers: Sequence[str]) -> Field:
    """The field with what is known about this model and this service filled in."""
    if item.name in ("providers", "require"):
        return replace(item, kind="picks", choices=[(name, name.upper()) for name in providers])
    if inspection is None:
        return item
    if item.name in ("inputs", "artifact_inputs"):
        return replace(item, rows=[_row(info) for info in inspection.inputs or inspection.input_candidates])
    if item.name == "outputs":
        names = [info.name for info in inspection.outputs or inspection.output_candidates]
        return replace(item, choices=[(name, name) for name in names])
    if item.name == "signature" and inspection.signatures:
        choices = [("", "default"), *((name, name) for name in inspection.signatures)]
        return replace(item, kind="choice", choices=choices)
    return item


def _row(info: TensorInfo) -> tuple[str, str, str]:
    dims = "" if info.shape is None else ", ".join("?" if d is None else str(d) for d in info.shape)
    return info.name, info.dtype, dims
