"""Classic BPF for seccomp: small blocks of instructions, each (code, jump-if-true, jump-if-false, k).

A block for one system call always returns, so blocks can be put one after the other in any order.
"""

from __future__ import annotations

import errno
from typing import Final

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_BITS, RETURN, AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
_WORD: Final = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]


def prologue(arch: int, foreign_bit: int | None) -> list[Instruction]:
    """Kill callers of another architecture (and of numbers from `foreign_bit` on); load the call's number."""
    steps: list[Instruction] = [
        (LOAD, 0, 0, _ARCH_AT),
        (JUMP_EQUAL, 1, 0, arch),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, _NUMBER_AT),
    ]
    if foreign_bit is not None:
        steps += [(JUMP_GREATER_EQUAL, 0, 1, foreign_bit), (RETURN, 0, 0, KILL)]
    return steps


def allow_call(number: int) -> list[Instruction]:
    """Allow system call `number`, whose number is loaded."""
    return [(JUMP_EQUAL, 0, 1, number), *allow()]


def block(number: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body` (which always returns) for system call `number`."""
    return [(LOAD, 0, 0, _NUMBER_AT), (JUMP_EQUAL, 0, len(body), number), *body]


def argument(index: int, *, high: bool = False) -> list[Instruction]:
    """Load the lower (or the upper) half of an argument; both machines that we know are little-endian."""
    return [(LOAD, 0, 0, _ARGUMENTS_AT + 8 * index + (4 if high else 0))]


def masked(mask: int) -> list[Instruction]:
    """Keep only the bits of `mask` of what is loaded."""
    return [(AND, 0, 0, mask)]


def allow() -> list[Instruction]:
    """Let the call through."""
    return [(RETURN, 0, 0, ALLOW)]


def answer(code: int) -> list[Instruction]:
    """Do not make the call; answer with `code` as errno (0: pretend success)."""
    return [(RETURN, 0, 0, ERRNO | code)]


def if_equal(value: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body` where what is loaded is `value`."""
    return [(JUMP_EQUAL, 0, len(body), value & _WORD), *body]


def unless_equal(value: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body` where what is loaded is not `value`."""
    return [(JUMP_EQUAL, len(body), 0, value & _WORD), *body]


def if_bits(bits: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body` where any of `bits` is set in what is loaded."""
    return [(JUMP_BITS, 0, len(body), bits), *body]


def any_of(index: int, values: tuple[int, ...], refusal: int = errno.EPERM) -> list[Instruction]:
    """Allow where the argument is one of `values`, else answer `refusal`."""
    steps = argument(index)
    for value in values:
        steps += if_equal(value, allow())
    return [*steps, *answer(refusal)]


def none_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allow where the argument is none of `values`."""
    steps = argument(index)
    for value in values:
        steps += if_equal(value, answer(errno.EPERM))
    return [*steps, *allow()]


def is_null(index: int) -> list[Instruction]:
    """Allow where the 64-bit argument is zero."""
    refuse = answer(errno.EPERM)
    return [
        *argument(index),
        *unless_equal(0, refuse),
        *argument(index, high=True),
        *unless_equal(0, refuse),
        *allow(),
    ]
