"""Fold operator models of onnx's own backend tests, each with a few fields changed; a line for each.

Usage: python -m tests.process.security.operator_models FIRST COUNT [--unchanged]

A line is `NUMBER NAME END`, where END is `ok`, a code of ours, or `surprise:TYPE: message` for any exception
that is not ours. A model that ends the process leaves a line without an end: it was being folded.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import onnx

from folding import pipeline
from folding.errors import BnfoldError, InternalError
from folding.options import FoldOptions
from tests.process.security.mutants import mutate_message


def models() -> list[tuple[str, onnx.ModelProto]]:
    """Every operator model that the onnx package generates, by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it divides by zero to show what operators make of it
        return [(case.name, case.model) for case in collect_testcases(None) if case.model is not None]


def end_of(model: onnx.ModelProto, folder: Path) -> str:
    """How folding a model ends."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializePartialToString())
    try:
        pipeline.fold(path, folder / "folded.onnx", FoldOptions(verify=False), workdir=folder)
    except BnfoldError as error:
        return f"surprise:{error}" if isinstance(error, InternalError) else error.error_code
    except Exception as error:  # noqa: BLE001 - finding those is what this is for
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:200]
        return f"surprise:{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {text}"
    return "ok"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--unchanged", action="store_true")
    asked = parser.parse_args()
    every = models()
    for number in range(asked.first, asked.first + asked.count):
        chance = random.Random(f"operators/{number}")
        name, source = every[number % len(every)] if asked.unchanged else chance.choice(every)
        model = onnx.ModelProto()
        model.CopyFrom(source)
        if not asked.unchanged:
            mutate_message(model, chance, chance.randint(1, 3))
        sys.stdout.write(f"{number} {name} ")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.stdout.write(end_of(model, Path(folder)).replace("\n", " ") + "\n")


if __name__ == "__main__":
    main()
