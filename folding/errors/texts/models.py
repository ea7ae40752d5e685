"""Errors of models, options and results of a fold."""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from folding.errors.texts.base import Text

MODELS: Final[dict[str, Text]] = {
    "probe_inputs": Text(
        "The probe does not fit the model",
        "The arrays given as `--probe` lack an input of the model, name one that it does not have, or have a shape or "
        "dtype that the unfolded model does not run on.",
        "Give one array per model input, by its name; `bnfold inspect` lists names, dtypes and shapes.",
        "`--probe data.npz` holds `image`, and the model's input is called `input_1`.",
    ),
    "usage": Text(
        "Invalid request",
        "An option, a value or a name in the request does not exist or does not fit the model. Nothing was run.",
        "Read the message: it names the option and the values that would do. `bnfold COMMAND --help` lists them all.",
        "`bnfold fold model.onnx` without `-o OUT.onnx`.",
    ),
    "unknown_opset": Text(
        "The model's opset is newer than this installation",
        "The file declares an operator set version that the installed onnx package does not know, so nothing can be "
        "said about what its operators mean.",
        "Export the model with an older opset, or update the onnx package that bnfold runs with.",
        '`opset_import { domain: "" version: 99 }`, and the installed onnx package knows 1 to 26.',
    ),
    "unknown_op": Text(
        "The model uses operators that do not exist",
        "An operator is neither in the opsets that the model imports, nor a function that the model brings along, nor "
        "one of ONNX Runtime's own. The message names all of them.",
        "A custom operator needs its definition as a model-local function; a misspelt one needs another export.",
        "A node of type `Convv`, or one of domain `acme.ops` that no function of the model defines.",
    ),
    "invalid_onnx": Text(
        "The onnx checker refuses the model",
        "The bytes are a ModelProto, but not a valid model: a name that nothing defines, an attribute of the wrong "
        "type, a tensor whose data do not fit its shape. The details hold the checker's own words.",
        "Run onnx.checker.check_model on the file and export it again.",
        "y = Relu(x), and nothing in the graph makes x.",
    ),
    "external_data_path": Text(
        "External data outside the model's folder",
        "An initializer asks for a file that is not a plain file beside the model: an absolute path, one that leads "
        "upwards, a link, or a file with several names. None of it was read.",
        "Save the model again with all its external data in one folder, as regular files.",
        '`external_data { key: "location" value: "../../etc/passwd" }`',
    ),
    "external_data_missing": Text(
        "External data that is not there",
        "The model keeps its weights in a second file, and only the first was given, or the second was renamed: the "
        ".onnx file knows it by name.",
        "Give the folder or an archive that holds both the .onnx file and its data file, under the name in the "
        "message.",
        "`model.onnx` was sent without `model.onnx.data`, which holds its weights.",
    ),
    "external_data_out_of_range": Text(
        "External data past the end of its file",
        "An initializer's offset and length reach beyond the data file: it is cut short, or belongs to another model.",
        "Copy the data file again, and make sure that it comes from the same save as the .onnx file.",
        "offset 4096 and length 1024 in a data file of 4,608 bytes.",
    ),
    "checker_refused": Text(
        "The resulting graph does not pass the onnx checker",
        "Every artifact is checked in full before it is written; this one failed, and nothing was written.",
        "The source itself passes, but constants that contradict its shapes show only when they are folded: run it in "
        "ONNX Runtime. If it runs there, please report it with the model.",
        "Reshape(x, [2, 3]) where x turns out to have 8 elements once constants are folded.",
    ),
    "input_preprocessing": Text(
        "The preprocessing does not fit the input",
        "`--input-mean` and `--input-std` take one number, or one for each channel of an input of floats; the channels "
        "are its second or its last axis. A standard deviation is above 0.",
        "Give as many numbers as the input has channels, or one; state sizes that the model leaves open.",
        "Three means for an input of shape (N, 1, 28, 28).",
    ),
    "no_ort_format_possible": Text(
        "The artifact cannot be written in ORT format",
        "ONNX Runtime loads the artifact and writes it in its own format; here it refused one of the two. The format "
        "holds at most 2 GiB, and only operators that the runtime's CPU provider implements.",
        "Fold without `--ort-format`: the ONNX artifact does not depend on it.",
        "An artifact with 3 GiB of weights.",
    ),
    "source_checker_refused": Text(
        "The source itself does not pass the onnx checker",
        "onnx.checker with full shape inference refuses the file before anything was done to it: an operator is fed "
        "a rank or type that its definition forbids. A runtime may load it all the same; an artifact made of it "
        "would not pass either, so none was written. The details hold the checker's own words.",
        "onnx.checker.check_model(path, full_check=True) says the same; repair the model or export it again.",
        "y = Conv(x, w), where x is declared with rank 2.",
    ),
    "opset_conversion": Text(
        "The model cannot be brought to that opset",
        "Some operator has no counterpart in the opset that was asked for, or changed its meaning on the way. The "
        "message names it.",
        "Leave --opset out, or ask for one nearer to the source's.",
        "`--opset 9` for a model with `Trilu`, which begins with opset 14.",
    ),
    "unknown_input": Text(
        "The model has no input of that name",
        "A shape or a value was given for an input that does not exist. Names are case-sensitive.",
        "`bnfold inspect` lists the inputs; the error lists them too.",
        "`--input Image=1,224,224,3` for a model whose input is called `image`.",
    ),
    "unknown_output": Text(
        "The model has no value of that name",
        "An output was asked for by a name that nothing in the graph has. Names are case-sensitive.",
        "`bnfold inspect` lists the outputs; any inner value's name will do as well.",
        "`--output logit` where the value is called `logits`.",
    ),
    "model": Text(
        "Something about the model stops the job",
        "The general code for a fault of the model; the message says which part of it is concerned.",
        "Look at the model with `bnfold inspect`, mend what the message names, and submit it again.",
        "A Keras model whose `call` cannot be written as one graph.",
    ),
    "unknown_format": Text(
        "No supported format recognises these bytes",
        "Files are recognised by their content, never by their name. These bytes are none of: Keras .keras or .h5, "
        "SavedModel (folder or archive), TensorFlow checkpoint (V1 or V2, folder or archive), GraphDef (.pb or "
        ".pbtxt), TensorFlow Lite (.tflite), TensorFlow.js (model.json with its shards), ONNX.",
        "Check that the upload is complete and is the model itself, not a log or a README. A checkpoint needs all its "
        "files (.index and .data-*, better also .meta): send the folder, or an archive of it.",
        "`bnfold fold weights.pt`: a PyTorch file.",
    ),
    "malformed_model": Text(
        "The structure of the model contradicts itself",
        "The file can be parsed, but something in it cannot be: an attribute has the wrong kind, a reference leads nowhere, "
        "a type is not one. No exporter writes this.",
        "Export the model again. If the framework that wrote it loads the file, report it as a defect: the message says what "
        "was stumbled over.",
        "An attribute `perm` of Transpose that holds a string.",
    ),
    "corrupt_model": Text(
        "The file is damaged or contradicts itself",
        "The format was recognised, but something in it cannot be read: it is cut short, a checksum is wrong, a shard "
        "is missing, or two parts disagree about a shape, a dtype or a name.",
        "Copy the file again and compare sizes or digests with the original. For a checkpoint, make sure that .index, "
        ".meta and all .data shards come from the same save.",
        "`model.onnx` of 40 MB, of which 31 MB were copied.",
    ),
    "unsupported_model": Text(
        "A valid model that cannot be converted",
        "The model uses an operation, a dtype or a control structure that has no ONNX equivalent here. The message "
        "names it and, where known, the layer.",
        "Choose outputs before that operation with `--output`, export the model without it (post-processing is the "
        "usual case), or feed a constant with `--feed` where the operation depends on a mode switch.",
        "A graph that decodes JPEG files: `DecodeJpeg` has no ONNX form.",
    ),
    "unsafe_model": Text(
        "The model breaks a limit for hostile input",
        "A trained model is a program. Before any framework sees it, its structure is checked against limits: code in "
        "the configuration, file access, links that leave the upload, sizes that do not fit the file, recursion. "
        "Nothing of it was executed.",
        "If the model is your own, the message names the object and the limit: re-export it without that part (for "
        "instance replace a Lambda layer by built-in layers).",
        "A Keras configuration with a `Lambda` layer, which holds Python bytecode.",
    ),
    "ambiguous_model": Text(
        "Inputs, outputs or the mode cannot be inferred",
        "More than one reading of the graph is possible, and a wrong guess would be silent. The candidates are listed.",
        "Name them: `--input NAME=SHAPE`, `--output NAME`, `--feed NAME=VALUE` for mode switches; over HTTP the "
        "options `inputs`, `outputs`, `signature` and `feeds`.",
        "A frozen graph with two nodes that nothing reads, `softmax` and `embedding`.",
    ),
    "unhealthy_model": Text(
        "Statistics that no fold can rescue",
        "At least one batch norm has non-finite or negative statistics, or has a health warning and the job ran under "
        "--strict. Folding it would give a correct fold of a wrong model.",
        "`bnfold inspect` shows the layer and the numbers. Take an earlier checkpoint, train the statistics (run the "
        "update ops), or re-estimate them with `--calibrate data.npz --recalibrate`.",
        "moving_variance = [0.7, nan, 1.1] in one of 53 batch norms.",
    ),
    "verification_failed": Text(
        "The artifact is not proved equivalent",
        "The folded graph was run beside the unfolded one and beside the source framework, and at least one judged "
        "comparison is outside the tolerance, or could not be made although it was required. The artifact is "
        "quarantined.",
        "Open the report: the first divergence names the layer, the rows name the runtime and optimization level. If "
        "the difference is a runtime hazard, the report gives the session option that avoids it.",
        "Output `logits`: difference 0.31, bound 2.4e-5, at index [0, 17].",
    ),
}
