"""Sessions: as many threads as the runtime would take, and free to move between processors."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from onnx import TensorProto, helper

from folding.ort import OrtSession, processors, runtime


def model() -> bytes:
    """One node; the session's threads are there from the start."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", sides[:1], sides[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(made.SerializeToString())


def others() -> set[int]:
    """Thread ids of this process, without the main thread."""
    return {int(name) for name in os.listdir("/proc/self/task")} - {threading.main_thread().native_id}


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc on Linux only")
@pytest.mark.skipif(processors() < 2, reason="one core: a session starts no thread")
def test_threads_are_as_many_as_the_runtime_takes_and_not_pinned() -> None:
    allowed = os.sched_getaffinity(0)
    before = others()
    session = OrtSession(model())
    mine = others() - before
    assert [os.sched_getaffinity(thread) for thread in mine] == [allowed] * len(mine)
    plain = runtime().InferenceSession(model(), providers=["CPUExecutionProvider"])
    theirs = others() - before - mine
    assert len(mine) == len(theirs) == processors() - 1
    del session, plain


def test_a_number_of_threads_is_kept() -> None:
    before = others()
    session = OrtSession(model(), threads=1)
    assert others() == before
    del session
