"""What other optimizers make of our patterns: `python -m bench.peer_outputs [--write PAGE]`.

Each pattern of the tests of rules (float32) goes through each peer in a process of its own kind. An output is

    crashed     the peer raised, or its process ended
    invalid     the onnx checker with shape inference, or ONNX Runtime, refuses the output
    interface   inputs or outputs have other names, or fewer
    wrong       it answers otherwise than the source by more than 1e-3 of its scale, optimizations off
    right       none of these

Trained files (`--real`) go the same way, and `folding.verify` judges what comes out, by its bounds; there
`unshown` stands for an inconclusive verdict.

Exit code 1 when bnfold's own output is anything but right.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from bench.peers import PEERS
from bench.sessions import session
from bench.table import grid

TOOLS = ("bnfold", "onnxsim", "onnxslim", "onnxoptimizer", "onnxscript", "ort_basic")
PACKAGES = ("onnx", "onnxruntime", "onnxsim", "onnxslim", "onnxoptimizer", "onnxscript")
OLIVE = (
    "Olive was not run (2026-11-28): `olive-ai` 0.13.0 requires torch, transformers and optuna,\n"
    "which the environment of the bench does not have. Its ONNX passes for graphs call optimizers that have\n"
    "rows here: onnxscript's, onnxoptimizer's and ONNX Runtime's."
)
# Findings that were looked into by hand: (optimizer, file) -> why the verdict is right.
EXPLAINED = {
    (
        "onnxscript",
        "nmp.onnx",
    ): "it removed the `+ 1e-10` before a Log as if it added nothing, so that silence "
    "gives log(0) = -inf and then NaN; with the constant kept, float64 gives the source's finite values",
}
WRONG = 1e-3  # of the output's scale; float32 rounding in these small graphs stays below 1e-5
SECONDS = 300


def patterns() -> dict[str, onnx.ModelProto]:
    """Source graphs by name: the tables of the tests, in float32."""
    from tests.support.numbers import begin

    begin("peer outputs")  # the tables draw their numbers while they are imported
    from tests.unit.folding.rules import test_peers, test_transparent
    from tests.unit.folding.rules.models import model

    made = {
        name: model(row.inputs, row.body, row.arrays, dtype="float32")
        for name, row in test_peers.ROWS.items()
        if not _typed(row.body)
    }
    for name, (between, arrays) in test_transparent.BETWEEN_PRODUCER.items():
        body = f"a = Conv(x, w) {between} y = BatchNormalization(c, g, b, m, v)"
        if "z = Shape" not in between:
            weights = {"w": test_transparent.n(8, 6, 1, 1), **arrays, **test_transparent.N8}
            made[f"through {name}"] = model("T[2,6,4,4] x", body, weights, dtype="float32")
    for name, (body, arrays) in test_transparent.BETWEEN_CONSUMER.items():
        if "z = Shape" not in body:
            whole = f"h = BatchNormalization(x, g, b, m, v) {body}"
            arrays = {**arrays, **test_transparent.N8}
            made[f"before {name}"] = model("T[2,8,4,4] x", whole, arrays, dtype="float32")
    n = test_transparent.n
    for name, (body, slopes) in test_transparent.TURNED.items():
        known = {
            "w": n(8, 8, 1, 1),
            "s": n(8, 1, 1),
            "minus": -np.abs(n(8, 1, 1)),
            "sl": 0.1 + np.abs(n(*slopes)),
        }
        known |= test_transparent.NEGATIVE
        arrays = {key: array for key, array in known.items() if f" {key}" in body}
        made[f"negative scales, {name}"] = model("T[2,8,4,4] x", body, arrays, dtype="float32")
    training = "c = Conv(x, w) y, mm, vv = BatchNormalization<training_mode=1>(c, g, b, m, v)"
    weights = {**test_peers.W, **test_peers.N8}
    made["training mode"] = model(test_peers.X, training, weights, dtype="float32")
    overridable = f"c = Conv(x, w) {test_peers.NORM}"
    made["weights that are an input"] = model(
        test_peers.X + ", T[8,6,3,3] w", overridable, weights, dtype="float32"
    )
    return made


def _typed(body: str) -> bool:
    """Rows that mix types of their own say so in their text."""
    return "Cast" in body or "QuantizeLinear" in body


def child(tool: str, folder: Path) -> None:
    """Optimize every file of a folder that has no answer yet; a line of JSON for each, before and after."""
    work = PEERS[tool]()
    for source in sorted(folder.glob("*.onnx")):
        answer = folder / tool / f"{source.stem}.json"
        if answer.exists():
            continue
        answer.write_text(json.dumps({"end": "its process ended"}))
        try:
            work(source, folder / tool / source.name)
            answer.write_text(json.dumps({"end": ""}))
        except BaseException as error:  # noqa: BLE001 - whatever a peer raises is the finding
            answer.write_text(json.dumps({"end": f"{type(error).__name__}: {str(error)[:200]}"}))


def optimize_all(tool: str, folder: Path) -> None:
    """Run the child until every source has an answer; one that ends the process is passed over."""
    (folder / tool).mkdir()
    wanted = len(list(folder.glob("*.onnx")))
    while len(list((folder / tool).glob("*.json"))) < wanted:
        before = len(list((folder / tool).glob("*.json")))
        command = [sys.executable, "-m", "bench.peer_outputs", "--child", tool, str(folder)]
        subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        if len(list((folder / tool).glob("*.json"))) == before:
            raise RuntimeError(f"{tool} does not start")


def judge(source: Path, made: Path, *, trained: bool = False) -> str:
    """The end of one output, as the module lists them; with nodes left where it is right."""
    end = json.loads(made.with_suffix(".json").read_text())["end"]
    if end or not made.exists():
        return f"crashed: {end or 'no output'}"
    if trained:
        return _verdict(source, made)
    try:
        onnx.checker.check_model(onnx.load(made), full_check=True)
        answers = _answers(made, source)
    except KeyError as error:
        return f"interface: no {error}"
    except Exception as error:  # noqa: BLE001 - what a checker or runtime says of somebody's output
        return f"invalid: {str(error).splitlines()[0][:120]}"
    worst = max(_differences(_answers(source, source), answers))
    if not worst <= WRONG:
        return f"wrong: off by {worst:.1e}"
    return f"right: {len([node for node in onnx.load(made).graph.node if node.op_type != 'Constant'])}"


def _verdict(source: Path, made: Path) -> str:
    """What `folding.verify` says of the output of a trained file."""
    from folding import verify
    from folding.errors import BnfoldError

    try:
        found = verify(source, made)
    except BnfoldError as error:
        return f"invalid: {error.message[:120]}"
    words = found.summary.splitlines()[0][:160] if found.summary else ""
    if found.verdict == "fail":
        return f"wrong: {words}" + (f" first at `{found.first_divergence}`" if found.first_divergence else "")
    return f"right: {found.verdict}" if found.verdict == "pass" else f"unshown: {words}"


def _answers(path: Path, source: Path) -> dict[str, np.ndarray]:
    """Outputs by name on one seeded input; overridable weights are given too, and not their defaults."""
    ready, reader = session(path, optimize=False), session(source, optimize=False)
    rng = np.random.default_rng(0)
    feeds = {}
    for value in (*reader.get_inputs(), *reader.get_overridable_initializers()):
        shape = [dim if isinstance(dim, int) else 2 for dim in value.shape]
        if value.type == "tensor(float)":
            feeds[value.name] = rng.standard_normal(shape).astype(np.float32)
        elif value.type == "tensor(bool)":
            feeds[value.name] = rng.random(shape) < 0.5
        else:
            feeds[value.name] = rng.integers(0, 4, shape)
    taken = {value.name for value in (*ready.get_inputs(), *ready.get_overridable_initializers())}
    for value in reader.get_overridable_initializers():
        if value.name not in taken:
            raise KeyError(value.name)
    names = [value.name for value in reader.get_outputs()]
    given = {name: array for name, array in feeds.items() if name in taken}
    return dict(zip(names, ready.run(names, given), strict=True))


def _differences(want: dict[str, np.ndarray], have: dict[str, np.ndarray]) -> Iterator[float]:
    for name, exact in want.items():
        other = have[name]
        if exact.shape != other.shape:
            yield float("inf")
        else:
            scale = max(float(np.abs(exact).max(initial=0)), 1e-12)
            yield float(np.abs(exact.astype(np.float64) - other).max(initial=0)) / scale


def run(folder: Path, tools: Iterable[str], files: Sequence[Path] = ()) -> dict[str, dict[str, str]]:
    """tool -> pattern -> end; of trained files where some are given, of the patterns else."""
    names = {}
    for index, path in enumerate(files):
        names[f"{index:03}"] = path.name
        shutil.copyfile(path, folder / f"{index:03}.onnx")
    for index, (name, proto) in enumerate([] if files else patterns().items()):
        names[f"{index:03}"] = name
        onnx.save(proto, folder / f"{index:03}.onnx")
    ends: dict[str, dict[str, str]] = {}
    for tool in tools:
        optimize_all(tool, folder)
        ends[tool] = {
            name: judge(folder / f"{stem}.onnx", folder / tool / f"{stem}.onnx", trained=bool(files))
            for stem, name in names.items()
        }
    return ends


def page(ends: dict[str, dict[str, str]], real: dict[str, dict[str, str]]) -> str:
    """The committed page: counts, and every output that is not right."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    count = len(next(iter(ends.values())))
    lines = [
        "# What other optimizers make of our patterns", "",
        f"Made by `python -m bench.peer_outputs --write` on {datetime.date.today().isoformat()}",
        f"with {versions}.",
        "",
        f"{count} small float32 graphs from the tests of rules. Outputs are run with ONNX Runtime's",
        "optimizations off, so that only the optimizer's own work is judged; *wrong* is off by more than",
        "1e-3 of the output's scale, *invalid* is refused by the onnx checker or the runtime, *interface*",
        "took an input",
        "away that callers could set.",
        "",
        *_table(ends), "",
    ]  # fmt: skip
    if real:
        count = len(next(iter(real.values())))
        lines += [
            "## Trained files", "",
            f"{count} trained files of public packages (see [real files](real-files.md)), judged by",
            "`bnfold verify` with its default options; *unshown* is an inconclusive verdict.", "",
            *_table(real), "",
        ]  # fmt: skip
    lines += [OLIVE, ""]
    lines += ["`bnfold verify SOURCE OUTPUT` gives the verdict on any of them, and on yours."]
    return "\n".join(lines) + "\n"


def _table(ends: dict[str, dict[str, str]]) -> list[str]:
    """Counts, and a row for each output that is not right."""
    kinds = ("right", "wrong", "invalid", "interface", "crashed", "unshown")
    unshown = any(_count(found, "unshown") for found in ends.values())
    used = kinds if unshown else kinds[:-1]
    rows = [[tool, *(str(_count(found, kind)) for kind in used)] for tool, found in ends.items()]
    lines = ["```text", grid(["", *used], rows), "```", ""]
    lines += ["| optimizer | model | what is the matter |", "|---|---|---|"]
    for tool, found in ends.items():
        for name, end in found.items():
            if not end.startswith("right"):
                words = [*end.replace("|", "/").split(), *EXPLAINED.get((tool, name), "").split()]
                lines.append(f"| {tool} | {name} | {' '.join(words)} |")
    return lines


def _count(found: dict[str, str], kind: str) -> int:
    return sum(end.startswith(kind) for end in found.values())


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page here")
    parser.add_argument(
        "--real", type=Path, nargs="*", default=[], metavar="FILE", help="trained files as well"
    )
    parser.add_argument("--tools", nargs="+", default=TOOLS, choices=TOOLS)
    parser.add_argument("--child", nargs=2, metavar=("TOOL", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], Path(asked.child[1]))
        return 0
    with tempfile.TemporaryDirectory(prefix="bnfold-peers-") as folder:
        ends = run(Path(folder), asked.tools)
    real: dict[str, dict[str, str]] = {}
    if asked.real:
        with tempfile.TemporaryDirectory(prefix="bnfold-peers-") as folder:
            real = run(Path(folder), asked.tools, asked.real)
    text = page(ends, real)
    if asked.write:
        asked.write.write_text(text)
    print(text)
    own = [name for name, end in ends.get("bnfold", {}).items() if not end.startswith("right")]
    return 1 if own else 0


if __name__ == "__main__":
    sys.exit(main())
