"""Known vulnerabilities in the pinned dependencies: `make audit`.

Two parts. Offline: every pinned package carries a hash, and none is below a safe version that we know of
(`service/runner/minimum_versions.py`). Online: pip-audit looks every package up; one that it skips, or a
database that it cannot reach, fails the audit. Without the network the answer is "not checked", exit
code 3, never "ok".
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.markers import Marker

from service.runner import minimum_versions

ROOT = Path(__file__).resolve().parents[1]
NOT_CHECKED = 3


def pinned(path: Path) -> dict[str, tuple[str, int]]:
    """Package -> (version, number of hashes) of a constraints file, without lines for other machines."""
    found: dict[str, tuple[str, int]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line):
            name = match[1].lower().replace("_", "-")
            marker = line.partition(";")[2].strip(" \\")
            if marker and not Marker(marker).evaluate():
                name = ""
                continue
            found[name] = (match[2], 0)
        if "--hash=sha256:" in line and name:
            version, count = found[name]
            found[name] = (version, count + line.count("--hash=sha256:"))
    return found


def offline(packages: dict[str, tuple[str, int]]) -> list[str]:
    """What is wrong as far as can be told without the network."""
    problems = [
        f"{name}=={version} has no hash" for name, (version, hashes) in packages.items() if not hashes
    ]
    return problems + [
        problem
        for name, (version, _) in packages.items()
        if (problem := minimum_versions.hole(name, version))
    ]


def online(path: Path, expected: set[str]) -> tuple[list[str], bool]:
    """(problems, whether every package was really looked up)."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "audit.json"
        options = (
            f"--disable-pip --require-hashes -r {path} --format json --progress-spinner off --timeout 15"
        )
        command = [sys.executable, "-m", "pip_audit", *options.split(), "--output", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not out.exists() or not out.read_text().strip():
            reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            return [f"pip-audit could not look anything up: {reason[:300]}"], False
        return judge(json.loads(out.read_text()), expected)


def judge(answer: dict[str, object], expected: set[str]) -> tuple[list[str], bool]:
    """Problems of pip-audit's answer; False where a package was skipped or is missing from it."""
    rows = answer["dependencies"]
    assert isinstance(rows, list)
    problems: list[str] = []
    seen, skipped = set(), []
    for row in rows:
        name = str(row["name"]).lower().replace("_", "-")
        seen.add(name)
        if "skip_reason" in row:
            skipped.append(name)
        for hole in row.get("vulns", []):
            fixed = ", ".join(hole["fix_versions"]) or "no release"
            problems.append(f"{name}=={row['version']}: {hole['id']}, mended in {fixed}")
    skipped += sorted(expected - seen)
    if skipped:
        problems.append(f"{len(skipped)} packages could not be looked up: {', '.join(skipped)}")
    return problems, not skipped


def main(arguments: list[str]) -> int:
    """Exit code: 0 nothing known, 1 something found, 3 not (wholly) checked."""
    path = ROOT / "constraints" / (arguments[0] if arguments else "runtime.txt")
    packages = pinned(path)
    found = offline(packages)
    looked_up, complete = online(path, set(packages))
    for problem in [*found, *looked_up]:
        print(problem)
    if found or (complete and looked_up):
        return 1
    if not complete:
        print(
            f"NOT CHECKED: {len(packages)} pinned packages; known holes cannot be told without the database."
        )
        return NOT_CHECKED
    print(f"{len(packages)} pinned packages, no known vulnerability")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
