"""`--use-ema`: weights from their ExponentialMovingAverage shadows, where the checkpoint holds such.

Given:  variable w, checkpoint keys `w` and `w/ExponentialMovingAverage`
Result: w is read from `w/ExponentialMovingAverage`
"""

from __future__ import annotations

from folding.errors import UsageError
from folding.report import Assumption
from folding.sources.tensorflow.graph.program import Program, Slot
from folding.sources.tensorflow.graph.tf_graph import VARIABLE_OPS

SUFFIX = "/ExponentialMovingAverage"


def shadow(program: Program) -> None:
    """Point every variable that has a shadow to it. Raises UsageError when none has."""
    taken = []
    for name, node in program.graph.nodes.items():
        if node.op not in VARIABLE_OPS or name.endswith(SUFFIX):
            continue
        slot = program.slots.get(name, Slot(name))
        if program.weights.has(slot.key + SUFFIX):
            program.slots[name] = Slot(slot.key + SUFFIX, slot.slice_spec)
            taken.append(name)
    if not taken:
        raise UsageError(
            "--use-ema: the checkpoint holds no <variable>/ExponentialMovingAverage for any "
            "variable of the graph.",
            code="no_ema",
            hint="Leave the option out; moving statistics of batch norms are always taken "
            "from their own averages.",
        )
    program.assumptions.append(
        Assumption(
            what="weights",
            value=f"{len(taken)} ExponentialMovingAverage shadows",
            why="asked for with --use-ema",
        )
    )


def suggest(program: Program) -> None:
    """Note that shadows of the weights exist, where the user did not ask for them."""
    count = sum(
        program.weights.has(program.slots.get(name, Slot(name)).key + SUFFIX)
        for name, node in program.graph.nodes.items()
        if node.op in VARIABLE_OPS and not name.endswith(SUFFIX)
    )
    if count:
        program.notes.append(
            f"The checkpoint also holds ExponentialMovingAverage shadows of {count} variable(s); the weights "
            "as trained last are used. --use-ema takes the shadows, which evaluation code often restores."
        )
