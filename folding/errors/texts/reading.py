"""Errors of reading a model."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

_AGAIN = "Copy or export the model again; if it is as it should be, please report it."
_ONE = "Send one of them, in a folder or archive of its own."

READING: Final[dict[str, Text]] = {
    "sparse_signature": Text(
        "A signature with sparse tensors",
        "An input or output of the signature is a sparse tensor, which has no ONNX form.",
        "Export a signature that takes and gives dense tensors.",
        "A signature with the input `ids: SparseTensor(int64)`.",
    ),
    "empty_file": Text(
        "The file is empty",
        "The upload has no bytes, so there is nothing to recognise.",
        "Check the path and the export, and send it again.",
        "`model.onnx` of 0 bytes, after a copy that ran out of disk.",
    ),
    "empty_archive": Text(
        "The archive holds no files",
        "It could be unpacked, and nothing was in it.",
        "Pack the model's files, not only their folder.",
        "`tar cf model.tar export/`, where `export` is an empty folder.",
    ),
    "empty_graph": Text(
        "The graph has no nodes",
        "The MetaGraph or GraphDef was read, and it is empty.",
        "Save the graph that computes the outputs, not a fresh one.",
        '`tf.train.write_graph(tf.Graph(), ".", "graph.pb")`',
    ),
    "corrupt_protobuf": Text(
        "The file is no complete protocol buffer",
        "The bytes begin like a TensorFlow file and end early or contradict themselves.",
        _AGAIN,
        "`saved_model.pb` of which only the first megabyte was copied.",
    ),
    "corrupt_checkpoint": Text(
        "The checkpoint is damaged",
        "Its index or data cannot be read: cut short, a wrong checksum, or sizes that do not fit.",
        "Copy all files of the checkpoint again, from the same save.",
        "`model.ckpt-1000.data-00000-of-00001` is shorter than its index says.",
    ),
    "corrupt_keras": Text(
        "The Keras file is damaged",
        "The HDF5 or zip structure ends early or cannot be read.",
        "Copy or save the model again.",
        "A `.keras` file whose zip directory is missing.",
    ),
    "missing_shard": Text(
        "A data shard is missing",
        "The checkpoint index, or the manifest of a TensorFlow.js model, names shards that are not among the files.",
        "Send every .data-?????-of-????? file of the checkpoint, every .bin file of the TensorFlow.js model.",
        "The index names `.data-00001-of-00002`, and only `.data-00000-of-00002` was sent.",
    ),
    "missing_weights": Text(
        "A graph without weights",
        "There is a .meta file or data shards, and no .index that says what is where.",
        "Add the .index and .data-* files that were saved with it.",
        "`model.ckpt-1000.meta` alone.",
    ),
    "missing_variables": Text(
        "Weights that the graph needs are not in the checkpoint",
        "Variables that are no moving statistics are absent, so there is nothing to compute with.",
        "Send the checkpoint that belongs to this graph. Variables may have been renamed, or saved by a `var_list`.",
        "The graph reads `conv1/kernel`; the checkpoint has `encoder/conv1/kernel`.",
    ),
    "checkpoint_without_graph": Text(
        "Weights without a graph",
        "A checkpoint alone can be inspected, but folding needs the graph.",
        "Add its .meta file, or the inference graph (.pb), to the upload.",
        "`model.ckpt-1000.index` and `.data-00000-of-00001` without `.meta`.",
    ),
    "checkpoint_mismatch": Text(
        "Graph and checkpoint disagree",
        "A variable has another shape or dtype in the graph than in the checkpoint: they are not of the same program.",
        "Send the .meta that was saved with this checkpoint.",
        "`dense/kernel` is (512, 10) in the graph and (512, 100) in the checkpoint.",
    ),
    "ambiguous_checkpoints": Text(
        "Several checkpoints",
        "The folder holds more than one, and a guess would be silent.",
        "Name the step with `--step`, or send one of them.",
        "A folder with `model.ckpt-1000.index` and `model.ckpt-2000.index`, and no file `checkpoint`.",
    ),
    "ambiguous_graphs": Text(
        "Several graphs",
        "More than one GraphDef is in the upload.",
        _ONE,
        "`frozen.pb` and `optimized.pb` in one folder.",
    ),
    "ambiguous_keras_files": Text(
        "Several Keras files",
        "More than one .keras or .h5 is in the upload.",
        _ONE,
        "`best.keras` and `last.keras` in one archive.",
    ),
    "ambiguous_saved_models": Text(
        "Several SavedModels",
        "More than one saved_model.pb is in the upload.",
        _ONE,
        "`export/1/saved_model.pb` and `export/2/saved_model.pb` in one archive.",
    ),
    "ambiguous_signature": Text(
        "Several signatures",
        "The SavedModel has more than one, and none is called serving_default; or it has none, and several of its traced functions could be the model. The candidates are listed.",
        "Name one of them with `--signature`.",
        "The signatures `encode` and `decode`, none called `serving_default`.",
    ),
    "ambiguous_outputs": Text(
        "The outputs cannot be told from the graph",
        "More than one node could be what inference computes. The candidates are listed.",
        "Name what you want with `--output NAME`, repeatedly for several.",
        "The unread nodes `predictions/Softmax` and `aux/Softmax`.",
    ),
    "no_signature": Text(
        "No signature",
        "The SavedModel has neither a signature nor a traced function that takes and gives tensors, so nothing says what to compute.",
        "Call the model once on data before it is saved, or save it with signatures; inputs and outputs of a TensorFlow 1 graph can be named with `--input` and `--output`.",
        '`tf.saved_model.save(tf.Module(), "export")` with variables and no `tf.function`.',
    ),
    "unknown_signature": Text(
        "No such signature",
        "The SavedModel has no signature of that name, and no traced function.",
        "The message lists what it has.",
        "`--signature predict` where the SavedModel has `serving_default`.",
    ),
    "unknown_tags": Text(
        "No graph with these tags",
        "A SavedModel holds one graph for each set of tags, and none for the given one.",
        "`bnfold inspect` lists them; name them with `--tag`.",
        "`--tag train` where the SavedModel has the tag sets `serve` and `serve, gpu`.",
    ),
    "unknown_provider": Text(
        "No such execution provider",
        "ONNX Runtime has no execution provider of the given name, installed or not.",
        "The message lists the names that it knows; `cpu` and `cuda` are the usual ones.",
        "`--provider rocmm`",
    ),
    "plug_in_failed": Text(
        "A plug-in cannot be used",
        "A package names a format or a provider in the entry points `bnfold.sources` or `bnfold.providers`, and the object cannot be imported or lacks what its group needs.",
        "Repair or uninstall the package that the message names. A package that is installed in editable form cannot be read inside the sandbox.",
        "The plug-in 'layers' cannot be imported: ModuleNotFoundError: No module named 'layers'.",
    ),
    "unknown_step": Text(
        "No checkpoint of that step",
        "The folder holds checkpoints, none with the given step.",
        "The message lists the steps that are there.",
        "`--step 1500` in a folder with the steps 1000 and 2000.",
    ),
    "input_shape": Text(
        "A shape that does not fit",
        "The shape given with --input contradicts the one that the model declares.",
        "Give sizes for the unknown dimensions only.",
        "`--input x=1,3,224,224` where the model declares (?, 224, 224, 3).",
    ),
    "unbound_input": Text(
        "An input that nobody feeds",
        "The outputs depend on a placeholder that is neither an input nor a known mode flag.",
        "Give it a value with `--feed NAME=VALUE`, or make it an input with `--input NAME`.",
        "The outputs depend on `keep_prob`, a placeholder that `--feed keep_prob=1.0` would bind.",
    ),
    "no_ema": Text(
        "No shadow variables",
        "--use-ema was asked for, and the checkpoint has no ExponentialMovingAverage of any weight.",
        "Leave --use-ema out, or send the checkpoint that has them.",
        "`--use-ema` for a checkpoint with `conv1/kernel` and no `conv1/kernel/ExponentialMovingAverage`.",
    ),
    "corrupt_tflite": Text(
        "The TensorFlow Lite file is damaged",
        "An offset leads outside the file, or tensors, operators and buffers contradict each other: a size that does not fit its bytes, a value that is read before it is computed.",
        _AGAIN,
        "A float32 tensor of shape (64, 32) whose buffer has 4,096 bytes, not 8,192.",
    ),
    "unsupported_tflite_storage": Text(
        "A TensorFlow Lite file with weights that are not read",
        "Weights are stored sparse, in blocks, in four bits or behind the flatbuffer; tf2onnx reads none of these.",
        "Convert the model again without sparsity and with int8 or float weights, or send its SavedModel.",
        "A tensor of type INT4, as quantization to four bits writes it.",
    ),
    "corrupt_tfjs": Text(
        "The TensorFlow.js model is damaged",
        "model.json is no complete document, its graph contradicts itself, or its manifest declares other sizes than the shards have.",
        "Copy model.json and all of its .bin files again.",
        "The manifest declares 4,194,304 bytes, and `group1-shard1of2.bin` has 3,000,000.",
    ),
    "unsupported_tfjs_layers": Text(
        "A TensorFlow.js layers model",
        "The file holds a Keras configuration, not a graph.",
        "Send the Keras file, or convert it to a graph model with tensorflowjs_converter.",
        '`{"format": "layers-model"}` in model.json.',
    ),
    "tensorflow_missing": Text(
        "TensorFlow is not installed",
        "This format needs TensorFlow (and LiteRT for .tflite), and the environment has none; ONNX models work without it.",
        "Install the extra: pip install 'bnfold[tensorflow]'.",
        "`pip install bnfold` without `bnfold[tensorflow]`, and a SavedModel.",
    ),
    "missing_table": Text(
        "A lookup table without its contents",
        "The outputs look something up in a table, and nothing in the files says what it holds: a frozen graph loses what fills its tables, and vocabulary files lie apart.",
        "Give the SavedModel with its `assets/` folder, or choose outputs before the lookup with `--output`.",
        "A frozen graph with `LookupTableFindV2` on a `HashTableV2` that an initializer used to fill.",
    ),
    "corrupt_vocabulary": Text(
        "A damaged vocabulary file",
        "A line of a file in `assets/` does not have the column, or the number, that the table reads from it.",
        "Copy the model's `assets/` folder again.",
        "`assets/vocab.txt` has 2 columns in line 7, and the table reads column 3.",
    ),
    "unsupported_op": Text(
        "An operation that cannot be converted",
        "The graph uses an operation without an ONNX form here; the message names node and operation.",
        "Choose outputs before it with `--output`, or export the model without it.",
        "Node `nms/CombinedNonMaxSuppression`.",
    ),
    "unsupported_resource": Text(
        "A resource that cannot be converted",
        "The model holds a lookup table, iterator or another resource that is no variable.",
        "Export the part of the model that works on tensors.",
        "The outputs read from an `OneShotIterator`.",
    ),
    "unsupported_variable_use": Text(
        "A variable is used in a way that has no value form",
        "The inference graph writes to a variable, or hands it on as a reference.",
        "Export the inference graph without the update.",
        "`tf.assign_add(counter, 1)` on the way to the outputs.",
    ),
    "conversion_failed": Text(
        "The conversion failed",
        "Both ways of converting the graph ended in an error; the message has the last words of each.",
        "Try another format of the same model (SavedModel, frozen graph), and please report it.",
        'tf2onnx: "Tensorflow op [Acme: Acme] is not supported", by both routes.',
    ),
    "reference_unavailable": Text(
        "The source framework cannot run the model",
        "The model was converted, but TensorFlow itself refuses to run it here, so it cannot be the reference.",
        "Export the model with a newer TensorFlow, or as ONNX.",
        "A kernel for `FusedBatchNormV3` in NCHW, which TensorFlow has on GPUs only.",
    ),
    "missing_function": Text(
        "A function is missing",
        "The graph calls a function that its library does not hold.",
        _AGAIN,
        "A node of type `__inference_call_42` where the library ends at `__inference_call_41`.",
    ),
    "function_arity": Text(
        "A call does not fit its function",
        "A node passes another number of inputs than the function takes.",
        _AGAIN,
        "PartitionedCall with 3 inputs of a function with 2 arguments.",
    ),
    "dangling_reference": Text(
        "A reference to nothing",
        "A node reads a value that no node of the graph or function makes.",
        _AGAIN,
        "Node `relu` reads `conv1:0`, and no node is called `conv1`.",
    ),
    "recursive_function": Text(
        "A function that calls itself",
        "Functions of a graph must end; this one does not.",
        "Export the model without recursion.",
        "The function `f` has a node of type `f`.",
    ),
    "function_expansion": Text(
        "Functions expand too far",
        "With every call written out the graph has more nodes than are read.",
        "Export a flatter graph.",
        "20 functions that each call the next one 8 times.",
    ),
    "fake_quant_range": Text(
        "A quantization range that cannot be used",
        "A fake quantization has a range that does not hold 0, or that is computed at run time.",
        "Calibrate the observers before the export, or export the float model.",
        "FakeQuantWithMinMaxArgs with min = 0.5 and max = 6.",
    ),
    "keras_config": Text(
        "Layers that cannot be rebuilt",
        "Keras cannot make the model from its configuration, typically because of a class of your own.",
        "Export a SavedModel (`model.export`), which needs no classes.",
        '`{"class_name": "MyAttention"}`, a class that only your program has.',
    ),
    "unbuilt_model": Text(
        "A model that was never called",
        "Keras saved it before it knew its input shape.",
        "Call it once on data, then save it.",
        "`keras.Sequential([keras.layers.Dense(10)])`, saved before it was called.",
    ),
    "weights_only": Text(
        "Weights without a model",
        "The file was written by save_weights, so the layers are missing; it can be inspected, not folded.",
        "Save the whole model with `model.save`.",
        '`model.save_weights("model.weights.h5")`',
    ),
    "calibration_data": Text(
        "Calibration data that does not fit",
        "Arrays are missing, empty, of another shape than the inputs, or of different lengths.",
        "Save one array for each input under its name, the first axis being the samples.",
        "`--calibrate data.npz` with arrays of 100 and of 99 samples.",
    ),
    "calibration_failed": Text(
        "The model cannot run on the calibration data",
        "The runtime refused the data; the message has its words.",
        "Check dtypes and value ranges of the arrays.",
        "Images of 32 x 32 for a network whose last feature map must not be empty.",
    ),
}
