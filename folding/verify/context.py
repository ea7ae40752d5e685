"""What is fixed while one artifact is verified: both graphs, the options, the inputs that they run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from folding.options import FoldOptions
from folding.progress import Progress
from folding.verify.compare.rows import Answers
from folding.verify.findings import Findings
from folding.verify.model import FedSession, Loaded
from folding.verify.probes import budget
from folding.verify.probes.generate import Probe


@dataclass(frozen=True)
class GraphPair:
    """The graph before folding and the artifact.

    sites: values at which both must agree. casts: how often a changed constant may have been
        rounded: once in our own folds, which their certificates show; nobody knows for other artifacts.
    """

    source: Loaded
    artifact: Loaded
    options: FoldOptions = field(default_factory=FoldOptions)
    progress: Progress = field(default_factory=Progress)
    sites: Sequence[str] = ()
    casts: float = 1.0

    @cached_property
    def session(self) -> FedSession:
        """The source with its weights fed, opened once: a thousand nodes take the runtime 0.1 s.

        Raises: the runtime's own exceptions where it does not load.
        """
        return self.source.session()

    def rng(self, *salt: int) -> np.random.Generator:
        """Return a generator of its own for each purpose."""
        return np.random.default_rng([self.options.seed, *salt])


@dataclass(frozen=True)
class ProbeSet:
    """The probes that the source runs on, and what it answers at DISABLE_ALL.

    answers: probe name -> outputs by name. effort: how much this model is worth.
    """

    probes: tuple[Probe, ...] = ()
    answers: Answers = field(default_factory=dict)
    effort: budget.Effort = field(default_factory=lambda: budget.plan(0.0))
    findings: Findings = field(default_factory=Findings)

    @property
    def first(self) -> Probe:
        """The probe that layer by layer comparisons use."""
        return self.probes[0]

    def feeds(self, name: str) -> dict[str, np.ndarray]:
        """Inputs of the probe called `name`."""
        return next(probe.feeds for probe in self.probes if probe.name == name)
