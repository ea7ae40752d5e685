"""Commands to copy: how to get the same result again from a shell, a pipeline, or Python.

Names from the model are quoted for the shell; digests and ids are our own.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Snippet:
    """A title, a language for the reader, and the text."""

    title: str
    language: str
    text: str


def for_job(
    base: str, job_id: str, filename: str, options: Mapping[str, Any], artifact: str | None
) -> list[Snippet]:
    """Everything worth copying about one job."""
    rows = [
        Snippet("Do it again with curl", "shell", submit(base, filename, options)),
        Snippet("Fetch the report", "shell", f"curl -fsS {base}/v1/jobs/{job_id}/report -o report.json"),
    ]
    if artifact is not None:
        rows.insert(0, Snippet("Download and check", "shell", download(base, artifact)))
        rows.append(Snippet("Run it", "python", RUN))
    rows.append(Snippet("On the command line", "shell", command(base, filename, options)))
    rows.append(Snippet("GitHub Actions", "yaml", github(base, filename, options)))
    rows.append(Snippet("GitLab CI", "yaml", gitlab(base, filename, options)))
    return rows


def submit(base: str, filename: str, options: Mapping[str, Any]) -> str:
    """One request, sent again while the job runs: model in, artifact out, or an error status."""
    name = shlex.quote(filename)
    lines = [f"curl -fsS --retry 60 {base}/v1/fold", f"  -F model=@{name}"]
    if options:
        lines.append(f"  -F options={shlex.quote(json.dumps(options, ensure_ascii=False))}")
    lines.append("  -o model.onnx")
    return " \\\n".join(lines)


def download(base: str, digest: str) -> str:
    """Download, then compare with the digest that the report names."""
    plain = digest.partition(":")[2]
    return (
        f"curl -fsS {base}/v1/artifacts/{digest} -o model.onnx\n"
        f'echo "{plain}  model.onnx" | sha256sum --check'
    )


def github(base: str, filename: str, options: Mapping[str, Any]) -> str:
    """A step for a workflow: submits, waits, annotates, fails unless the verdict is pass."""
    return (
        "- uses: bnfold/bnfold@v0\n"
        "  with:\n"
        f"    model: {json.dumps(filename)}\n"
        f"    url: {base}\n"
        "    key: ${{ secrets.BNFOLD_KEY }}\n"
        f"    options: {_yaml(options)}\n"
        "    out: model.onnx"
    )


def gitlab(base: str, filename: str, options: Mapping[str, Any]) -> str:
    """The same as a GitLab component; the key is the masked variable BNFOLD_KEY."""
    return (
        "include:\n"
        "  - component: $CI_SERVER_FQDN/bnfold/bnfold/fold@0\n"
        "    inputs:\n"
        f"      model: {json.dumps(filename)}\n"
        f"      url: {base}\n"
        f"      options: {_yaml(options)}"
    )


def command(base: str, filename: str, options: Mapping[str, Any]) -> str:
    """The command line; its exit code is the verdict. Options that have no short form go by HTTP only."""
    flags = "".join(f" {part}" for part in _flags(options))
    return f"bnfold submit {shlex.quote(filename)}{flags} \\\n  --url {base} --wait -o model.onnx"


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            yield flag
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            yield f"{flag} {shlex.quote(str(value))}"


def _yaml(options: Mapping[str, Any]) -> str:
    """JSON inside a YAML string of single quotes."""
    return "'" + json.dumps(options, ensure_ascii=False).replace("'", "''") + "'"


RUN = """import onnxruntime as ort

session = ort.InferenceSession("model.onnx")
for value in session.get_inputs():
    print(value.name, value.type, value.shape)"""
