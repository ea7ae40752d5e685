"""Commands to copy: how to get the same result again from a shell, a pipeline, or Python.

Names from the model are quoted for the shell; digests and ids are our own.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
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
    rows.append(Snippet("GitHub Actions", "yaml", github(base, filename, options)))
    rows.append(Snippet("GitLab CI", "yaml", gitlab(base, filename, options)))
    return rows


def submit(base: str, filename: str, options: Mapping[str, Any]) -> str:
    """One request: model in, artifact or a job to wait for out."""
    name = shlex.quote(filename)
    lines = [f"curl -fsS {base}/v1/fold", f"  -F model=@{name}"]
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


def _flags(options: Mapping[str, Any]) -> str:
    parts = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            parts += [flag] if value else []
        elif isinstance(value, (int, float, str)):
            parts.append(f"{flag} {shlex.quote(str(value))}")
    return "".join(f" {part}" for part in parts)


def github(base: str, filename: str, options: Mapping[str, Any]) -> str:
    """A step for a workflow; it fails when the verdict is not pass."""
    return (
        "- name: Fold and verify\n"
        "  run: |\n"
        f"    bnfold submit {shlex.quote(filename)}{_flags(options)} --url {base} --wait\n"
        "  env:\n"
        "    BNFOLD_KEY: ${{ secrets.BNFOLD_KEY }}"
    )


def gitlab(base: str, filename: str, options: Mapping[str, Any]) -> str:
    """The same as a GitLab job."""
    return (
        "fold:\n"
        "  stage: build\n"
        "  script:\n"
        f"    - bnfold submit {shlex.quote(filename)}{_flags(options)} --url {base} --wait"
    )


RUN = """import onnxruntime as ort

session = ort.InferenceSession("model.onnx")
for value in session.get_inputs():
    print(value.name, value.type, value.shape)"""
