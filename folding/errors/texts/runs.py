"""Errors of the process that runs a job, and of the machine under it."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

RUNS: Final[dict[str, Text]] = {
    "dependency_too_old": Text(
        "A dependency is older than its safe version",
        "Some releases of the libraries that read models have published holes. The service refuses to start with one of them.",
        "Install the pinned versions (`make setup`), or upgrade the package that the message names.",
        "onnx 1.15 is installed, and 1.22 is the first version without the published hole.",
    ),
    "cancelled": Text(
        "The job was cancelled",
        "Its owner cancelled it, or the command was interrupted. Nothing was published.",
        "Submit it again: what was already uploaded is not sent twice.",
        "`bnfold fold model.h5 -o model.onnx`, ended with Ctrl-C.",
    ),
    "timed_out": Text(
        "The job ran past its wall-clock limit",
        "The runner was stopped when its time was up. The time spent waiting in the queue does not count.",
        "Raise the limit in the settings, verify on fewer providers, or cut the model down to the outputs you need.",
        "`bnfold fold model.h5 -o model.onnx --timeout 60`, still verifying after 60 seconds.",
    ),
    "temporary_failure": Text(
        "Trying again later may succeed",
        "Nothing is wrong with the request; a resource was missing (storage full, a worker lost, a service starting).",
        "Wait for the time given in Retry-After and repeat the same request with the same Idempotency-Key.",
        "The worker was restarted while it ran the job.",
    ),
    "internal": Text(
        "A defect of bnfold itself",
        "Something happened that the program does not expect. The details name the stage.",
        "Please report it with the log file that the message names and, if you may, the model or its inspection.",
        "A `KeyError` in a pass: the details name the stage `fold`.",
    ),
    "machine_exhausted": Text(
        "The machine has run out of descriptors, memory or threads",
        "A process, a file or a thread that the work needs could not be had. The job waits and is tried again.",
        "Operators: look at open files, memory and threads of the service; it recovers without a restart.",
        "`OSError: [Errno 24] Too many open files` when the runner is started.",
    ),
    "runner_crashed": Text(
        "The process that ran the model died",
        "The sandboxed process was ended by a signal, typically a crash in native code of a framework. It was tried "
        "once more with the same result.",
        "Try the model through another format (for instance the frozen graph instead of the checkpoint), or with "
        "fewer outputs. Please report models that crash and are not hostile.",
        "Signal 11 in `libtensorflow_cc.so`, twice for the same model.",
    ),
    "device_lost": Text(
        "The device failed while it computed",
        "The GPU or its driver reported a failure after which nothing in the process can be trusted. The job is "
        "run again once, in a new process.",
        "Look at the device: `nvidia-smi -q`, the kernel's log. A model that brings it down every time can be "
        "folded without the provider.",
        "CUDA failure 719: unspecified launch failure.",
    ),
    "out_of_memory": Text(
        "The job needed more memory than it may use",
        "The sandboxed process reached its memory limit and was stopped.",
        "Raise the memory limit in the settings, use a worker with more memory, or fix dynamic input sizes to smaller "
        "ones with `--input NAME=SHAPE`.",
        "A batch of 256 images through a network whose activations take 9 GB, with a limit of 4 GB.",
    ),
    "lost_lease": Text(
        "The worker lost its claim on the job",
        "The worker stopped answering (suspended, cut off, restarted) and another one took the job over; the late "
        "result of the first is refused.",
        "Nothing to do: the job goes on elsewhere. Many of these mean overloaded or sleeping worker machines.",
        "A virtual machine was suspended for 5 minutes; another worker took its job after 1.",
    ),
    "sandbox_violation": Text(
        "The model tried something that the sandbox forbids",
        "The kernel stopped the process at a forbidden system call or path.",
        "If the model is your own, please report it with the operation named in the message. Do not run it elsewhere "
        "unguarded.",
        "The model's process called `connect`, and seccomp ended it.",
    ),
    "runner_unavailable": Text(
        "No runner process could be started",
        "The sandboxed process did not come up: no memory, no process slots, or a sandbox that this machine cannot "
        "offer.",
        "`bnfold doctor` says what is missing. The job is tried again by itself.",
        "`fork` failed: the control group allows 64 processes, and 64 run.",
    ),
}
