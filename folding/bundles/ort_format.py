"""The artifact in ONNX Runtime's own format, with the operators that a reduced build of the runtime needs.

<name>/model.ort
<name>/required_operators.config    for the runtime's build.py --include_ops_by_config
<name>/report.json
"""

from __future__ import annotations

from folding.bundles.base import Contents, Member, no_ort_format

KIND = "ort"
TITLE = "ONNX Runtime format (.ort)"


def members(contents: Contents) -> list[Member]:
    """Return the model in ORT format, its operators and the report. Raises: UsageError `no_ort_format`."""
    found = contents.ort()
    if found is None:
        raise no_ort_format()
    model, operators = found
    return [
        model.at(f"{contents.name}/model.ort"),
        Member.of(f"{contents.name}/required_operators.config", operators.encode()),
        contents.report.at(f"{contents.name}/report.json"),
    ]
