"""Every hostile file through the whole pipeline in a jail: refused by a stable code, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from folding.errors import catalogue
from tests.process.security.corpus import Case, build
from tests.process.security.harness import Ends, run_all

SECONDS = 20.0
MARK = Path("/tmp/bnfold-pwned")  # what the files that carry commands would leave behind


@dataclass
class Ran:
    cases: list[Case]
    ends: Ends
    before: set[Path]
    after: set[Path]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    home = tmp_path_factory.mktemp("corpus")
    scratch = tmp_path_factory.mktemp("scratch")
    MARK.unlink(missing_ok=True)
    cases = build(home)
    before = set(home.rglob("*"))
    return Ran(cases, run_all(cases, scratch, corpus=home, seconds=SECONDS), before, set(home.rglob("*")))


def test_the_corpus_is_large_and_of_every_kind(ran: Ran) -> None:
    assert len(ran.cases) >= 150
    kinds = {case.name.split("/")[0] for case in ran.cases}
    assert kinds == {"archives", "tensorflow", "keras", "onnx", "formats"}


@pytest.mark.parametrize("kind", ["archives", "tensorflow", "keras", "onnx", "formats"])
def test_each_is_refused_by_its_own_code(ran: Ran, kind: str) -> None:
    wrong = {}
    for case in ran.cases:
        code = ran.ends.codes.get(case.name, "never ran")
        expected = case.codes or {"ok"}
        if case.name.startswith(kind) and code not in expected:
            wrong[case.name] = (code, sorted(expected)[:4], ran.ends.messages.get(case.name))
    assert not wrong


def test_none_crashes_hangs_or_surprises(ran: Ran) -> None:
    crashed = {name: code for name, code in ran.ends.codes.items() if code.startswith("crash:")}
    surprised = {
        name: ran.ends.messages[name] for name, cls in ran.ends.classes.items() if cls == "InternalError"
    }
    slow = {name: s for name, s in ran.ends.seconds.items() if s > SECONDS + 5}
    assert (crashed, surprised, slow) == ({}, {}, {})


def test_each_code_is_explained(ran: Ran) -> None:
    known = set(catalogue.ERRORS)
    health = {"missing_from_checkpoint", "ok"}
    assert set(ran.ends.codes.values()) - known - health == set()


def test_nothing_was_written_outside(ran: Ran) -> None:
    assert not MARK.exists()
    assert ran.after == ran.before


def test_no_message_carries_control_characters_or_paths_of_this_machine(ran: Ran) -> None:
    for name, message in ran.ends.messages.items():
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in message), name
        assert "site-packages" not in message, name
        assert "/runner-" not in message, name
