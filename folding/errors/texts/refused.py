"""Errors of models that break a limit or reach outside themselves."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

_REEXPORT = "If the model is your own, export it again without that; nothing of it was executed."

REFUSED: Final[dict[str, Text]] = {
    "unsafe_archive_bomb": Text(
        "The archive inflates too far",
        "Unpacked it is larger than the limit, which counts bytes while inflating.",
        "Send the model unpacked, or raise the limit if it is really that large.",
        "A zip of 42 kB that inflates to 4 GB.",
    ),
    "unsafe_archive_members": Text(
        "Too many members",
        "The archive lists more files than are read.",
        "Pack the model's own files only.",
        "A tar with 2,000,000 empty files.",
    ),
    "unsafe_archive_link": Text(
        "A link in the archive",
        "Links can point outside the folder, so none are made.",
        "Pack files instead of links (`tar --dereference`).",
        "A member `variables` that is a link to `/etc`.",
    ),
    "unsafe_archive_device": Text(
        "A member that is no regular file",
        "Devices, pipes and sockets are no part of a model.",
        "Pack regular files only.",
        "A member that is the device `/dev/sda`.",
    ),
    "unsafe_archive_name": Text(
        "A name that leaves the folder",
        "A member's name is absolute, contains `..`, or has characters that file systems read in their own way.",
        "Pack with relative, plain names.",
        "A member called `../../home/user/.ssh/authorized_keys`.",
    ),
    "unsafe_archive_duplicate": Text(
        "A member occurs twice",
        "Two members have one name, and which one counts would be a guess.",
        "Pack each file once.",
        "Two members called `saved_model.pb`.",
    ),
    "unsafe_archive_collision": Text(
        "Two names that some file systems take for one",
        "Names differ only in case or in Unicode form.",
        "Rename one of the files.",
        "`Model.onnx` and `model.onnx` in one archive.",
    ),
    "unsafe_archive_encrypted": Text(
        "An encrypted member",
        "Its content cannot be checked.",
        "Pack without encryption.",
        "`zip --encrypt model.zip model.onnx`",
    ),
    "unsafe_archive_method": Text(
        "A compression method that is not read",
        "Only stored and deflated members are.",
        "Pack with the usual method.",
        "A zip member compressed with LZMA (method 14).",
    ),
    "unsafe_archive_sparse": Text(
        "A sparse file",
        "Sparse members declare sizes that the archive does not hold.",
        "Pack without --sparse.",
        "`tar --sparse` of a file that declares 1 TB and holds 4 kB.",
    ),
    "unsafe_op": Text(
        "An operation that reaches outside the model",
        "It reads or writes files, the network or the process, which inference never needs.",
        _REEXPORT,
        "A `ReadFile` node with the constant `/etc/passwd`.",
    ),
    "unsafe_dimensions": Text(
        "Dimensions beyond the limit",
        "A shape's product is larger than any real tensor; allocating it would take the machine down.",
        _REEXPORT,
        "An input of shape (1, 1000000, 1000000, 3).",
    ),
    "unsafe_expansion": Text(
        "Constants that expand too far",
        "A small constant is blown up to a huge one at load time.",
        _REEXPORT,
        "Tile(constant of 4 bytes, [1000000, 1000000])",
    ),
    "unsafe_graph_size": Text(
        "Too many nodes",
        "The graph has more nodes than are read.",
        "Export a flatter graph, or raise the limit for models that you trust.",
        "A graph with 12,000,000 nodes.",
    ),
    "unsafe_function_expansion": Text(
        "Functions that expand too far",
        "With every call written out, the graph is beyond the limit: a few functions can double each other to billions.",
        _REEXPORT,
        "f1 calls f2 twice, f2 calls f3 twice, and so on to f40: 2^40 nodes.",
    ),
    "unsafe_function_recursion": Text(
        "A function that calls itself",
        "Loading it would never end, or crash the loader.",
        _REEXPORT,
        "f calls g, and g calls f.",
    ),
    "unsafe_function_depth": Text(
        "Functions nested too deep",
        "Calls nest deeper than the limit, which crashes loaders.",
        _REEXPORT,
        "A chain of 5,000 functions, each of which calls the next.",
    ),
    "unsafe_subgraph_depth": Text(
        "Bodies nested too deep",
        "If, Loop and Scan bodies nest deeper than the limit.",
        _REEXPORT,
        "An If in an If, 500 deep.",
    ),
    "unsafe_recursion": Text(
        "Nested deeper than can be followed",
        "The structure nests until the reader's stack ends.",
        "Flatten nested models or functions before exporting.",
        "A GraphDef whose attributes nest lists of functions 10,000 deep.",
    ),
    "unsafe_loop": Text(
        "A loop with too many rounds",
        "Its constant trip count would keep a machine busy for ever.",
        _REEXPORT,
        "Loop with the constant trip count 2^40.",
    ),
    "unsafe_attribute": Text(
        "An attribute that is too large",
        "An attribute holds more items than any operation needs.",
        _REEXPORT,
        "An attribute with 100,000,000 integers.",
    ),
    "unsafe_name": Text(
        "A name that is too long",
        "A name of a node, value or operator set is longer than any real one.",
        "Rename it.",
        "A node whose name is 5 MB long.",
    ),
    "unsafe_asset_path": Text(
        "An asset outside the model's folder",
        "The SavedModel refers to files that are not its own.",
        _REEXPORT,
        '`asset_file_def { filename: "../../../etc/passwd" }`',
    ),
    "unsafe_shard_path": Text(
        "A shard outside the model's folder",
        "The manifest of the TensorFlow.js model names a shard by an absolute path, an address, or one that leads upwards.",
        "Save the model with its shards beside model.json.",
        '`{"paths": ["../../etc/passwd"]}` in the manifest.',
    ),
    "unsafe_external_data": Text(
        "External data that is not the model's own",
        "Its location leaves the folder, is a link, or lies beyond the file's end.",
        "Save the model and its data into one folder of plain files.",
        "`model.onnx.data` is a link to `/etc/shadow`.",
    ),
    "unsafe_hdf5_link": Text(
        "A link in the HDF5 file",
        "Soft and external links can read other files of the machine.",
        "Save the model again with Keras; it makes no links.",
        "`/model_weights/dense` is an external link to `/home/user/private.h5`.",
    ),
    "unsafe_hdf5_storage": Text(
        "A dataset with external storage",
        "Its data would be read from another file of the machine.",
        "Save the model again with Keras.",
        "A dataset whose external storage is `/etc/passwd`.",
    ),
    "unsafe_hdf5_filter": Text(
        "A dataset that needs a filter plug-in",
        "Plug-ins are code that HDF5 would load.",
        "Save without compression filters other than gzip.",
        "A dataset compressed with filter 32001 (Blosc).",
    ),
    "unsafe_hdf5_size": Text(
        "Datasets larger than their file",
        "The file declares more bytes than it can hold; reading it would exhaust memory.",
        "Save the model again.",
        "A chunked dataset of shape (10^9, 10^3) in a file of 8 kB.",
    ),
    "unsafe_hdf5_depth": Text(
        "Groups nested too deep",
        "The HDF5 file nests deeper than any model.",
        _REEXPORT,
        "Groups nested 2,000 deep.",
    ),
    "unsafe_hdf5_objects": Text(
        "Too many HDF5 objects",
        "The file has more groups and datasets than any model.",
        _REEXPORT,
        "A file with 3,000,000 groups.",
    ),
    "unsafe_config_depth": Text(
        "A configuration nested too deep",
        "Its JSON nests deeper than any model's.",
        _REEXPORT,
        "`[[[[...]]]]`, 100,000 deep.",
    ),
    "unsafe_config_size": Text(
        "A configuration that is too large",
        "Its JSON is larger than any model's.",
        _REEXPORT,
        "A `config.json` of 800 MB.",
    ),
    "unsafe_keras_class": Text(
        "A class that is not on the list",
        "The configuration names a class outside Keras' own built-in layers: Lambda, a registered or foreign one. Such a class is code.",
        "Replace it by built-in layers, or export a SavedModel.",
        '`{"class_name": "Lambda", "config": {"function": ["4wEAAAA...", null, null]}}`',
    ),
    "unsafe_keras_member": Text(
        "A member that a .keras file does not have",
        "Only configuration, metadata, weights and assets belong there.",
        "Save the model again with Keras.",
        "A `.keras` archive with the member `payload.py`.",
    ),
    "unsafe_keras_name": Text(
        "A layer whose name could be a path",
        "Names with slashes, backslashes, dots or NUL have been used to write files.",
        "Rename the layer.",
        "A layer called `../../outside`.",
    ),
    "unsafe_keras_file": Text(
        "A layer that reads a file",
        "A vocabulary or another setting is a path of the machine.",
        "Give the vocabulary as a list.",
        '`TextVectorization(vocabulary="/etc/passwd")`',
    ),
    "unsafe_disk_use": Text(
        "The job wrote too much",
        "It wrote more bytes than a job may.",
        "Raise the disk limit if the model is really that large.",
        "The runner wrote 40 GB for a model of 100 MB.",
    ),
    "sandbox_unavailable": Text(
        "No sandbox holds here",
        "The canary escaped: on this machine a model could harm more than its own process, so nothing is run.",
        "Use Linux 5.13 or newer with Landlock and seccomp, or accept the risk for models that you trust with --allow-unsandboxed.",
        "A kernel without Landlock, in a container where bubblewrap may not make namespaces.",
    ),
}
