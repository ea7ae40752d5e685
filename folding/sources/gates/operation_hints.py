"""Say what to do about operations that have no ONNX form, by what they are for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_BEGIN: Final = "(--input NAME=SHAPE with the name of that node)"
_ELSE: Final = (
    "Name outputs that lie before these ops (--output NAME), or begin behind them (--input NAME=SHAPE), or "
    "replace the layer before export."
)
_BUCKETS: Final = (
    "Hash buckets of texts have no ONNX form: give StaticVocabularyTable one bucket (num_oov_buckets=1), or "
    f"look ids up before the model and begin behind the lookup {_BEGIN}."
)
_FILLED: Final = (
    "A table that is filled while the program runs has no ONNX form: put its contents into "
    f"tf.lookup.StaticHashTable before export, or begin behind the lookup {_BEGIN}."
)
_STATELESS: Final = (
    "With a fixed seed and a fixed shape the numbers are constants and are folded: give the input fixed "
    f"sizes (--input NAME=SHAPE), or make the numbers an input {_BEGIN}."
)
_DRAWN: Final = (
    "If it is dropout or noise of training, export in inference mode (--feed training=false); else make the "
    f"numbers an input of the model {_BEGIN}."
)
# (operations, what to do); the first that matches any of them.
_HINTS: Final = (
    (r"StringToHashBucket", _BUCKETS),
    (r"MutableDenseHashTable|MutableHashTable|LookupTable", _FILLED),
    (r"^Stateless(Random|Truncated|Parameterized|Multinomial)", _STATELESS),
    (r"Random|TruncatedNormal|Multinomial|StatefulUniform|StatefulStandardNormal|Poisson", _DRAWN),
)


def hint(ops: Iterable[str]) -> str:
    """Return the remedy for operations without an ONNX form."""
    held = list(ops)
    return next((text for pattern, text in _HINTS if any(re.search(pattern, op) for op in held)), _ELSE)
