"""Runs a GitHub composite action and a GitLab component as their runners would, as far as ours need it.

GitHub: `${{ inputs.x }}`, `${{ steps.id.outputs.x }}`, `env`, `shell: bash` (`bash --noprofile --norc -eo
pipefail`), GITHUB_OUTPUT, GITHUB_STEP_SUMMARY, GITHUB_ACTION_PATH. GitLab: `$[[ inputs.x ]]` in the second
document, `variables`, `script` lines in one shell with `set -eo pipefail`, artifacts and dotenv.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_GITHUB = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
_GITLAB = re.compile(r"\$\[\[\s*inputs\.([\w-]+)\s*\]\]")


@dataclass
class Ran:
    """What a step left behind."""

    code: int
    log: str
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""


def clean_environment(**more: str) -> dict[str, str]:
    """The environment of a runner: none of ours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BNFOLD_", "GITHUB_", "CI_"))}
    return kept | more


def github(action: Path, workspace: Path, **given: str) -> Ran:
    """Run a composite action in a workspace with these inputs (`with:`; dashes as underscores)."""
    spec = yaml.safe_load(action.read_text())
    inputs = {name: str(entry.get("default", "")) for name, entry in spec["inputs"].items()}
    inputs |= {name.replace("_", "-"): value for name, value in given.items()}
    missing = [n for n, e in spec["inputs"].items() if e.get("required") and not inputs[n]]
    assert not missing, f"required inputs are missing: {missing}"
    unknown = set(inputs) - set(spec["inputs"])
    assert not unknown, f"inputs that the action does not have: {unknown}"
    known = {f"inputs.{name}": value for name, value in inputs.items()}
    summary = workspace / ".summary"
    summary.touch()
    log, code = "", 0
    assert spec["runs"]["using"] == "composite"
    for step in spec["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert not _GITHUB.search(step["run"]), "an expression inside the script: a value could be a command"
        output = workspace / f".output-{step.get('id', 'step')}"
        output.write_text("")
        environment = clean_environment(
            GITHUB_ACTIONS="true",
            GITHUB_OUTPUT=str(output),
            GITHUB_STEP_SUMMARY=str(summary),
            GITHUB_ACTION_PATH=str(action.parent),
            GITHUB_WORKSPACE=str(workspace),
            **{name: _expand(str(value), known) for name, value in step.get("env", {}).items()},
        )
        done = _bash(step["run"], workspace, environment)
        log, code = log + done.stdout, done.returncode
        for line in output.read_text().splitlines():
            name, _, value = line.partition("=")
            known[f"steps.{step['id']}.outputs.{name}"] = value
        if code:
            break
    outputs = {name: _expand(entry["value"], known) for name, entry in spec["outputs"].items()}
    return Ran(code, log, outputs, summary.read_text())


def _expand(text: str, known: dict[str, str]) -> str:
    return _GITHUB.sub(lambda match: known.get(match[1], ""), text)


def gitlab(template: Path, workspace: Path, key: str = "", **given: str) -> tuple[Ran, dict[str, Any]]:
    """Run the one job of a component; also the job's definition with inputs filled in."""
    header, body = template.read_text().split("\n---\n", 1)
    declared = yaml.safe_load(header)["spec"]["inputs"]
    inputs = {name: (entry or {}).get("default") for name, entry in declared.items()} | given
    missing = [name for name, value in inputs.items() if value is None]
    assert not missing, f"required inputs are missing: {missing}"
    jobs = yaml.safe_load(_GITLAB.sub(lambda match: str(inputs[match[1]]), body))
    [(_, job)] = jobs.items()
    variables = {name: str(value) for name, value in job["variables"].items()}
    environment = clean_environment(GITLAB_CI="true", BNFOLD_KEY=key, **variables)
    done = _bash("\n".join(job["script"]), workspace, environment)
    dotenv = workspace / job["artifacts"]["reports"]["dotenv"]
    lines = dotenv.read_text().splitlines() if dotenv.exists() else []
    return Ran(done.returncode, done.stdout, dict(line.split("=", 1) for line in lines)), job


def _bash(script: str, workspace: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=workspace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
