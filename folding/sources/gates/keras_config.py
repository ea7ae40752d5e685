"""Keras models: the configuration that says which classes to build.

Everything that a configuration can name is compared with exact lists of Keras' own classes; a name that is
not on them is code of somebody else, whatever module it claims to come from.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from folding.sources.gates import keras_names, tf_ops
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown

_REBUILD: Final = (
    "Replace the layer by built-in ones, or export the model as a SavedModel (model.export), which carries "
    "graphs instead of code."
)
_MODULE: Final = re.compile(
    r"builtins|keras(_core)?|(keras(_core)?|tf_keras|tensorflow\.keras|tensorflow\.python\.keras)"
    r"\.(src\.)?(engine|layers|models|initializers|regularizers|constraints|activations|dtype_policies|backend|"
    r"mixed_precision|random|applications|utils|ops|saving|legacy)(\.[a-z_0-9]+)*|"
    r"keras\.(src\.)?(engine|models)(\.[a-z_0-9]+)*|tensorflow\.python\.ops\.init_ops(_v2)?"
)
_OPERATION_MODULES: Final = re.compile(r"keras\.src\.ops\.(numpy|nn|math|image|linalg|core)")
_OPERATIONS_REFUSED: Final = frozenset(
    ("Operation", "Cond", "Map", "Scan", "AssociativeScan", "VectorizedMap", "WhileLoop", "ForiLoop",
     "CustomGradient", "Variable", "Vectorize", "Switch", "JVP")
)  # fmt: skip
_TF_FUNCTIONS: Final = re.compile(
    r"(compat\.v1\.)?(math|nn|linalg|signal|__operators__|dtypes|bitwise|keras\.(backend|activations))\.\w+|"
    r"(compat\.v1\.)?(image\.(resize\w*|rgb_to_grayscale|per_image_standardization|crop_to_bounding_box|"
    r"pad_to_bounding_box|extract_patches|flip_\w+)|strings\.(lower|upper|strip|length))|"
    r"(compat\.v1\.)?(reshape|concat|transpose|cast|expand_dims|squeeze|stack|unstack|split|tile|pad|shape|"
    r"identity|stop_gradient|clip_by_value|ones_like|zeros_like|zeros|ones|range|fill|slice|strided_slice|gather|"
    r"gather_nd|where|convert_to_tensor|one_hot|reverse|matmul|add|subtract|multiply|divide|maximum|minimum|abs|"
    r"sqrt|square|exp|pow|tanh|sigmoid|reduce_\w+|argmax|argmin|cumsum|broadcast_to|size|rank|einsum|tensordot|"
    r"norm|round|sign|negative|equal|not_equal|greater|less|logical_\w+|space_to_batch|batch_to_space|roll)"
)
_COUNTS: Final = frozenset(
    ("units", "filters", "output_dim", "input_dim", "num_heads", "num_query_heads", "num_key_value_heads",
     "key_dim", "value_dim", "head_dim", "depth_multiplier", "num_tokens", "max_tokens", "num_bins", "n",
     "hidden_dim", "repeats", "nb_filter", "nb_row", "nb_col", "groups", "num_classes", "rank")
)  # fmt: skip
_SIZES: Final = frozenset(
    ("kernel_size", "pool_size", "size", "padding", "cropping", "strides", "dilation_rate", "output_padding",
     "target_height", "target_width", "height", "width")
)  # fmt: skip
_SHAPES: Final = frozenset(
    ("batch_input_shape", "batch_shape", "target_shape", "output_shape", "input_shape")
)
# A layer with more units than this has weights beyond what any of its kind was published with.
_MOST: Final = 1 << 28
_LARGEST_SIZE: Final = 1 << 20


def load_json(text: bytes, name: str, limits: Limits = LIMITS) -> Any:
    """Parse JSON under a size limit. Raises UnsafeModel, json.JSONDecodeError."""
    if len(text) > limits.config_bytes:
        refuse(
            "unsafe_config_size", f"{name} is larger than {limits.config_bytes} bytes.", name=name,
            limit=limits.config_bytes, hint="Split the model.",
        )  # fmt: skip
    try:
        return json.loads(text)
    except RecursionError:
        _too_deep(limits)
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error


def _too_deep(limits: Limits) -> NoReturn:
    refuse(
        "unsafe_config_depth", f"The configuration nests deeper than {limits.config_depth}.",
        limit=limits.config_depth, hint="Flatten nested models before saving.",
    )  # fmt: skip


def check_keras_config(config: Any, limits: Limits = LIMITS, *, archive: bool = True) -> None:
    """Check a model's configuration. `archive`: layer names become paths inside a `.keras` file.

    Raises: UnsafeModel (codes `unsafe_keras_*`, `unsafe_config_*`, `unsafe_dimensions`), CorruptModel.
    """
    if not isinstance(config, dict):
        corrupt("The model's configuration is no object.")
    archive = archive and not str(config.get("keras_version", "")).startswith(("1.", "2."))
    layers = 0
    for item in _objects(config, limits):
        if "class_name" in item:
            layers += 1
            if layers > limits.config_layers * 20:
                refuse(
                    "unsafe_config_size", "The configuration has too many objects.",
                    limit=limits.config_layers, hint="Split the model.",
                )  # fmt: skip
            _check_class(item)
        _check_names(item, archive=archive)
        _check_figures(item, limits)


def _objects(config: dict[str, Any], limits: Limits) -> Iterator[dict[str, Any]]:
    """Every object in the configuration. What only `compile()` reads is never built: left out."""
    pending: list[tuple[Any, int]] = [(config, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > limits.config_depth:
            _too_deep(limits)
        if isinstance(value, dict):
            yield value
            skipped = ("compile_config", "training_config") if depth <= 1 else ()
            pending.extend((child, depth + 1) for key, child in value.items() if key not in skipped)
        elif isinstance(value, list):
            pending.extend((child, depth + 1) for child in value)


def _refuse_class(name: object, why: str) -> NoReturn:
    refuse("unsafe_keras_class", f"The configuration names {shown(name)!r}, {why}.", name=name, hint=_REBUILD)


def _check_class(item: dict[str, Any]) -> None:
    name, module = item["class_name"], item.get("module")
    if not isinstance(name, str):
        corrupt("A class_name of the configuration is no text.")
    registered = item.get("registered_name")
    if registered not in (None, name) and registered not in keras_names.REGISTERED:
        _refuse_class(registered, "a class that was registered by somebody's own code")
    if name in keras_names.VALUES:
        return
    if module is not None and not (isinstance(module, str) and _MODULE.fullmatch(module)):
        _refuse_class(f"{module}.{name}", "which is not part of Keras")
    if name == "function":
        _check_function(item)
    elif isinstance(module, str) and _OPERATION_MODULES.fullmatch(module):
        if name in _OPERATIONS_REFUSED or not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
            _refuse_class(f"{module}.{name}", "an operation that takes code")
    elif name not in keras_names.LAYERS | keras_names.MODELS | keras_names.PARTS | keras_names.OPERATIONS:
        _refuse_class(name, "which is no built-in layer, or one that runs code")
    config = item.get("config")
    if isinstance(config, dict):
        _check_settings(name, config)


def _check_function(item: dict[str, Any]) -> None:
    config = item.get("config")
    name = config.get("name") if isinstance(config, dict) else config
    if name not in keras_names.ACTIVATIONS or item.get("module") not in (
        None, "builtins", "keras.activations", "keras.src.activations", "keras.src.activations.activations",
    ):  # fmt: skip
        _refuse_class(f"{item.get('module')}.{name}", "a function that is no built-in activation")


def _check_settings(name: str, config: dict[str, Any]) -> None:
    """Settings of a layer that would make it read a file or run a named function."""
    for key in keras_names.VOCABULARIES & set(config):
        if isinstance(config[key], str):
            refuse(
                "unsafe_keras_file",
                f"Layer {shown(config.get('name', name))!r} reads its {key} from the file "
                f"{shown(config[key])!r}.",
                name=config.get("name", name), hint="Give the vocabulary as a list before saving.",
            )  # fmt: skip
    if name in ("TFOpLambda", "SlicingOpLambda"):
        function = config.get("function")
        if not isinstance(function, str) or not _TF_FUNCTIONS.fullmatch(function):
            _refuse_class(f"{name}({function})", "a TensorFlow function that is not known to be harmless")
    if name == "TensorFlowOpLayer":
        _check_op_layer(config)
    for key in ("standardize", "split", "activation", "recurrent_activation"):
        value = config.get(key)
        if isinstance(value, str) and ("lambda" in value or "." in value or "(" in value):
            _refuse_class(value, f"a {key} that is code")


def _check_op_layer(config: dict[str, Any]) -> None:
    node = config.get("node_def")
    try:
        parsed = json.loads(node) if isinstance(node, str) else node
        op = parsed["op"] if parsed else None
    except (ValueError, TypeError, KeyError):
        match = re.search(r'op:\s*"(\w+)"', node) if isinstance(node, str) else None
        op = match.group(1) if match else None
    if op not in tf_ops.INFERENCE:
        _refuse_class(f"TensorFlowOpLayer({op})", "an operation that is not known to be harmless")


def _check_names(item: dict[str, Any], *, archive: bool) -> None:
    """Names become paths in archives and groups in HDF5 files."""
    name = item.get("name")
    if not isinstance(name, str):
        return
    bad = "\\" in name or "\0" in name or ".." in name.split("/") or name.startswith("/") or name in (".", "")
    if bad or (archive and "/" in name) or len(name) > LIMITS.name_bytes:
        refuse(
            "unsafe_keras_name", f"A layer is called {shown(name)!r}, which could be read as a path.",
            name=name, hint="Rename the layer.",
        )  # fmt: skip


def _check_figures(item: dict[str, Any], limits: Limits) -> None:
    """Counts and shapes that alone would take all memory when the layer is built."""
    for key, value in item.items():
        if key in _SHAPES:
            found, limit = _largest_shape(value), limits.input_elements
        elif key in _COUNTS or key in _SIZES:
            found = max((abs(v) for v in _numbers(value)), default=0)
            limit = _MOST if key in _COUNTS else _LARGEST_SIZE
        else:
            continue
        if found > limit:
            refuse(
                "unsafe_dimensions",
                f"{shown(key)} = {shown(value)} of {shown(item.get('name', 'a layer'))!r} is beyond {limit}.",
                name=item.get("name", key), limit=limit, hint="Use smaller sizes, or None for a dynamic one.",
            )  # fmt: skip


def _largest_shape(value: Any) -> int:
    """Elements of a shape, or of the largest one in a list or dictionary of shapes."""
    entries = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    nested = [_largest_shape(entry) for entry in entries[:1000] if isinstance(entry, list | dict)]
    own = math.prod(v for v in _numbers([e for e in entries if not isinstance(e, list)]) if v > 0)
    return max([own, *nested])


def _numbers(value: Any) -> Iterator[int]:
    for entry in value[:1000] if isinstance(value, list) else [value]:
        if isinstance(entry, list):
            yield from _numbers(entry[:16]) if not any(isinstance(e, list) for e in entry) else ()
        elif isinstance(entry, int | float) and not isinstance(entry, bool) and math.isfinite(entry):
            yield int(entry)
