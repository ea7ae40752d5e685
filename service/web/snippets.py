"""Commands to copy: how to get the same result again from a shell, a pipeline, or Python.

Each command repeats the job as it was: the same options, the same data files, the API key where one is
needed. The files are fetched from the service first, under the names that the commands use, since a reader
may not have them.
Names are quoted for the shell; digests and ids are our own.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from folding.options import FoldOptions

CALIBRATION, PROBE, CANDIDATE = "calibration.npz", "probe.npz", "artifact.onnx"
AUTHORIZATION = ' -H "Authorization: Bearer $BNFOLD_KEY"'


@dataclass(frozen=True)
class Snippet:
    """A title, a language for the reader, and the text."""

    title: str
    language: str
    text: str


@dataclass(frozen=True)
class Work:
    """What a job did, as far as commands need it.

    base: address of the service. keyed: it wants an API key. options: those that differ from the defaults.
    calibration, probe: digests of the data files, None without them. candidate: of the file compared.
    """

    base: str
    filename: str
    source: str
    options: Mapping[str, Any]
    calibration: str | None = None
    probe: str | None = None
    candidate: str | None = None
    keyed: bool = False

    @property
    def model(self) -> str:
        """Return the name of the model's file on the reader's disk: plain letters, the same ending."""
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in self.filename)
        return plain.strip("-.") or "model"

    @property
    def authorization(self) -> str:
        """Return curl's header with the key, or nothing."""
        return AUTHORIZATION if self.keyed else ""

    def files(self) -> Iterator[tuple[str, str, str]]:
        """Yield (role, digest, file name) of everything that went into the job."""
        yield "model", self.source, self.model
        if self.calibration is not None:
            yield "calibration", self.calibration, CALIBRATION
        if self.probe is not None:
            yield "probe", self.probe, PROBE
        if self.candidate is not None:
            yield "artifact", self.candidate, CANDIDATE


def for_job(work: Work, job_id: str, artifact: str | None) -> list[Snippet]:
    """Return everything worth copying about one job."""
    report = f"curl -fsS{work.authorization} {work.base}/v1/jobs/{job_id}/report -o report.json"
    if work.candidate is not None:
        return [*comparison(work), Snippet("Fetch the report", "shell", report)]
    rows = []
    if artifact is not None:
        rows.append(Snippet("Download and check", "shell", download(work, artifact)))
    rows.append(Snippet("Fetch the files of this job", "shell", fetch(work)))
    rows.append(Snippet("Do it again with curl", "shell", submit(work)))
    flags = command(work)
    if flags is not None:
        rows.append(Snippet("On the command line", "shell", flags))
    rows.append(Snippet("GitHub Actions", "yaml", github(work)))
    rows.append(Snippet("GitLab CI", "yaml", gitlab(work)))
    rows.append(Snippet("Fetch the report", "shell", report))
    if artifact is not None:
        rows.append(Snippet("Run it", "python", RUN))
    return rows


def comparison(work: Work) -> list[Snippet]:
    """Return the same comparison as one request, and as a command."""
    name = shlex.quote(work.model)
    return [
        Snippet("Fetch the files of this job", "shell", fetch(work)),
        Snippet("Do it again with curl", "shell", submit(work, "verify", "report.json")),
        Snippet("On the command line", "shell", f"bnfold verify {name} {CANDIDATE} --html report.html"),
    ]


def fetch(work: Work) -> str:
    """Return commands that bring the model and the data files to the reader's disk."""
    return "\n".join(
        f"curl -fsS{work.authorization} {work.base}/v1/blobs/{digest} -o {shlex.quote(name)}"
        for _, digest, name in work.files()
    )


def submit(work: Work, route: str = "fold", out: str = "model.onnx") -> str:
    """Return one request, sent again while the job runs: files in, `out` out, or an error status."""
    lines = [f"curl -fsS --retry 60{work.authorization} {work.base}/v1/{route}"]
    lines += [f"  -F {shlex.quote(f'{role}=@{name}')}" for role, _, name in work.files()]
    if work.options:
        lines.append(f"  --form-string {shlex.quote('options=' + _json(work.options))}")
    lines.append(f"  -o {out}")
    return " \\\n".join(lines)


def download(work: Work, digest: str) -> str:
    """Return a download, and its comparison with the digest that the report names."""
    plain = digest.partition(":")[2]
    return (
        f"curl -fsS{work.authorization} {work.base}/v1/artifacts/{digest} -o model.onnx\n"
        f'echo "{plain}  model.onnx" | sha256sum --check'
    )


def github(work: Work) -> str:
    """Return a step for a workflow: submits, waits, annotates, fails unless the verdict is pass."""
    lines = [
        "- uses: bnfold/bnfold@v0",
        "  with:",
        f"    model: {_text(work.model)}",
        f"    url: {work.base}",
    ]
    if work.keyed:
        lines.append("    key: ${{ secrets.BNFOLD_KEY }}")
    # An expression in a name would be evaluated by the runner.
    options = _json(work.options).replace("${{", "${{ '${{' }}")
    lines += [f"    options: {_quoted(options)}", *_data(work, "    "), "    out: model.onnx"]
    return "\n".join(lines)


def gitlab(work: Work) -> str:
    """Return the same as a GitLab component; the key is the masked variable BNFOLD_KEY."""
    # A lone dollar would begin the name of a variable, an apostrophe would end the component's own string.
    options = _json(work.options).replace("$", "$$").replace("'", "\\u0027")
    lines = [
        "include:",
        "  - component: $CI_SERVER_FQDN/bnfold/bnfold/fold@v0",
        "    inputs:",
        f"      model: {_text(work.model)}",
        f"      url: {work.base}",
        f"      options: {_quoted(options)}",
        *_data(work, "      "),
        "      out: model.onnx",
    ]
    return "\n".join(lines)


def command(work: Work) -> str | None:
    """Return the command line, whose exit code is the verdict; None where no flag says an option."""
    flags = list(_flags(work.options))
    if None in flags:
        return None
    if work.calibration is not None:
        flags.append(f"--calibrate={CALIBRATION}")
    if work.probe is not None:
        flags.append(f"--probe={PROBE}")
    words = " ".join(["bnfold submit", shlex.quote(work.model), *(shlex.quote(str(flag)) for flag in flags)])
    return f"{words} \\\n  --url {work.base} --wait -o model.onnx"


def _flags(options: Mapping[str, Any]) -> Iterator[str | None]:
    """Yield each option as `--flag=value`; None for a value that no command line can say."""
    for name, value in options.items():
        flag = FoldOptions.shown(name).flag or "--" + name.replace("_", "-")
        if isinstance(value, bool):
            yield flag if value else None
        elif isinstance(value, Mapping):
            yield from (_pair(flag, *item) for item in value.items())
        elif isinstance(value, list):
            yield from (f"{flag}={item}" for item in value)
        elif value is not None:
            yield f"{flag}={value}"


def _pair(flag: str, name: str, value: Any) -> str | None:
    if "=" in name:
        return None
    if flag == "--feed":
        return f"{flag}={name}={_json(value)}"
    if not isinstance(value, list):
        return f"{flag}={name}={value}"
    if not all(dim is None or isinstance(dim, int | float) or dim.isidentifier() for dim in value):
        return None
    dims = ",".join("?" if dim is None else str(dim) for dim in value)
    return f"{flag}={name}={dims}" if dims else f"{flag}={name}"


def _data(work: Work, indent: str) -> list[str]:
    return [f"{indent}{role}: {name}" for role, _, name in work.files() if role != "model"]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    """Return a YAML string of double quotes."""
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Return a YAML string of single quotes."""
    return "'" + text.replace("'", "''") + "'"


RUN = """import onnxruntime as ort

session = ort.InferenceSession("model.onnx")
for value in session.get_inputs():
    print(value.name, value.type, value.shape)"""
