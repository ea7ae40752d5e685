"""What every code means and what to do about it: the text behind `bnfold explain CODE`, docs and pages.

One table per kind, `code -> (title, meaning, remedy)`. Titles are a few words, meanings say what was
found and why it matters, remedies say what the reader can do next. `tests/unit/folding/errors/test_catalogue.py` fails
when an enum member or a literal code in the tree is missing here.
"""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501, ISC004

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from folding.errors.examples import HAZARD_EXAMPLES, HEALTH_EXAMPLES, SKIP_EXAMPLES
from folding.errors.texts import READING, REFUSED, SERVICE

Text = tuple[str, str, str]

_ERRORS: Final[dict[str, Text]] = {
    "probe_inputs": (
        "The probe does not fit the model",
        "The arrays given as `--probe` lack an input of the model, name one that it does not have, or have a shape or "
        "dtype that the unfolded model does not run on.",
        "Give one array per model input, by its name; `bnfold inspect` lists names, dtypes and shapes.",
    ),
    "usage": (
        "The request is off",
        "An option, a value or a name in the request does not exist or does not fit the model. Nothing was run.",
        "Read the message: it names the option and the values that would do. `bnfold COMMAND --help` lists them all.",
    ),
    "unknown_opset": (
        "The model's opset is newer than this installation",
        "The file declares an operator set version that the installed onnx package does not know, so nothing can be "
        "said about what its operators mean.",
        "Export the model with an older opset, or update the onnx package that bnfold runs with.",
    ),
    "unknown_op": (
        "The model uses operators that do not exist",
        "An operator is neither in the opsets that the model imports, nor a function that the model brings along, nor "
        "one of ONNX Runtime's own. The message names all of them.",
        "A custom operator needs its definition as a model-local function; a misspelt one needs another export.",
    ),
    "invalid_onnx": (
        "The onnx checker refuses the model",
        "The bytes are a ModelProto, but not a valid model: a name that nothing defines, an attribute of the wrong "
        "type, a tensor whose data do not fit its shape. The details hold the checker's own words.",
        "Run onnx.checker.check_model on the file and export it again.",
    ),
    "external_data_path": (
        "External data outside the model's folder",
        "An initializer asks for a file that is not a plain file beside the model: an absolute path, one that leads "
        "upwards, a link, or a file with several names. None of it was read.",
        "Save the model again with all its external data in one folder, as regular files.",
    ),
    "external_data_missing": (
        "External data that is not there",
        "The model keeps its weights in a second file, and only the first was given, or the second was renamed: the "
        ".onnx file knows it by name.",
        "Give the folder or an archive that holds both the .onnx file and its data file, under the name in the "
        "message.",
    ),
    "external_data_out_of_range": (
        "External data past the end of its file",
        "An initializer's offset and length reach beyond the data file: it is cut short, or belongs to another model.",
        "Copy the data file again, and make sure that it comes from the same save as the .onnx file.",
    ),
    "checker_refused": (
        "The resulting graph does not pass the onnx checker",
        "Every artifact is checked in full before it is written; this one failed, and nothing was written.",
        "The source itself passes, but constants that contradict its shapes show only when they are folded: run it in "
        "ONNX Runtime. If it runs there, please report it with the model.",
    ),
    "source_checker_refused": (
        "The source itself does not pass the onnx checker",
        "onnx.checker with full shape inference refuses the file before anything was done to it: an operator is fed "
        "a rank or type that its definition forbids. A runtime may load it all the same; an artifact made of it "
        "would not pass either, so none was written. The details hold the checker's own words.",
        "onnx.checker.check_model(path, full_check=True) says the same; repair the model or export it again.",
    ),
    "opset_conversion": (
        "The model cannot be brought to that opset",
        "Some operator has no counterpart in the opset that was asked for, or changed its meaning on the way. The "
        "message names it.",
        "Leave --opset out, or ask for one nearer to the source's.",
    ),
    "unknown_input": (
        "The model has no input of that name",
        "A shape or a value was given for an input that does not exist. Names are case-sensitive.",
        "`bnfold inspect` lists the inputs; the error lists them too.",
    ),
    "unknown_output": (
        "The model has no value of that name",
        "An output was asked for by a name that nothing in the graph has. Names are case-sensitive.",
        "`bnfold inspect` lists the outputs; any inner value's name will do as well.",
    ),
    "model": (
        "Something about the model stops the job",
        "The general code for a fault of the model; the message says which part of it is concerned.",
        "Look at the model with `bnfold inspect`, mend what the message names, and submit it again.",
    ),
    "unknown_format": (
        "No supported format recognises these bytes",
        "Files are recognised by their content, never by their name. These bytes are none of: Keras .keras or .h5, "
        "SavedModel (folder or archive), TensorFlow checkpoint (V1 or V2, folder or archive), GraphDef (.pb or "
        ".pbtxt), TensorFlow Lite (.tflite), TensorFlow.js (model.json with its shards), ONNX.",
        "Check that the upload is complete and is the model itself, not a log or a README. A checkpoint needs all its "
        "files (.index and .data-*, better also .meta): send the folder, or an archive of it.",
    ),
    "malformed_model": (
        "The structure of the model contradicts itself",
        "The file can be parsed, but something in it cannot be: an attribute has the wrong kind, a reference leads nowhere, "
        "a type is not one. No exporter writes this.",
        "Export the model again. If the framework that wrote it loads the file, report it as a defect: the message says what "
        "was stumbled over.",
    ),
    "dependency_too_old": (
        "A dependency is older than its safe version",
        "Some releases of the libraries that read models have published holes. The service refuses to start with one of them.",
        "Install the pinned versions (`make setup`), or upgrade the package that the message names.",
    ),
    "corrupt_model": (
        "The file is damaged or contradicts itself",
        "The format was recognised, but something in it cannot be read: it is cut short, a checksum is wrong, a shard "
        "is missing, or two parts disagree about a shape, a dtype or a name.",
        "Copy the file again and compare sizes or digests with the original. For a checkpoint, make sure that .index, "
        ".meta and all .data shards come from the same save.",
    ),
    "unsupported_model": (
        "A valid model that cannot be converted",
        "The model uses an operation, a dtype or a control structure that has no ONNX equivalent here. The message "
        "names it and, where known, the layer.",
        "Choose outputs before that operation with `--output`, export the model without it (post-processing is the "
        "usual case), or feed a constant with `--feed` where the operation depends on a mode switch.",
    ),
    "unsafe_model": (
        "The model breaks a limit for hostile input",
        "A trained model is a program. Before any framework sees it, its structure is checked against limits: code in "
        "the configuration, file access, links that leave the upload, sizes that do not fit the file, recursion. "
        "Nothing of it was executed.",
        "If the model is your own, the message names the object and the limit: re-export it without that part (for "
        "instance replace a Lambda layer by built-in layers).",
    ),
    "ambiguous_model": (
        "Inputs, outputs or the mode cannot be inferred",
        "More than one reading of the graph is possible, and a wrong guess would be silent. The candidates are listed.",
        "Name them: `--input NAME=SHAPE`, `--output NAME`, `--feed NAME=VALUE` for mode switches; over HTTP the "
        "options `inputs`, `outputs`, `signature` and `feeds`.",
    ),
    "unhealthy_model": (
        "Statistics that no fold can rescue",
        "At least one batch norm has non-finite or negative statistics, or has a health warning and the job ran under "
        "--strict. Folding it would give a correct fold of a wrong model.",
        "`bnfold inspect` shows the layer and the numbers. Take an earlier checkpoint, train the statistics (run the "
        "update ops), or re-estimate them with `--calibrate data.npz --recalibrate`.",
    ),
    "verification_failed": (
        "The artifact is not proved equivalent",
        "The folded graph was run beside the unfolded one and beside the source framework, and at least one judged "
        "comparison is outside the tolerance, or could not be made although it was required. The artifact is "
        "quarantined.",
        "Open the report: the first divergence names the layer, the rows name the runtime and optimization level. If "
        "the difference is a runtime hazard, the report gives the session option that avoids it.",
    ),
    "cancelled": (
        "The job was cancelled",
        "Its owner cancelled it, or the command was interrupted. Nothing was published.",
        "Submit it again: what was already uploaded is not sent twice.",
    ),
    "timed_out": (
        "The job ran past its wall-clock limit",
        "The runner was stopped when its time was up. The time spent waiting in the queue does not count.",
        "Raise the limit in the settings, verify on fewer providers, or cut the model down to the outputs you need.",
    ),
    "still_running": (
        "The job has not ended yet",
        "A request that waits for the artifact ended before the job did. The job goes on.",
        "Send the same request again: it joins the running job. Ask for a longer wait with Prefer: wait=60, or for "
        "the job itself with Prefer: respond-async.",
    ),
    "temporary_failure": (
        "Trying again later may succeed",
        "Nothing is wrong with the request; a resource was missing (storage full, a worker lost, a service starting).",
        "Wait for the time given in Retry-After and repeat the same request with the same Idempotency-Key.",
    ),
    "internal": (
        "A defect of bnfold itself",
        "Something happened that the program does not expect. The details name the stage.",
        "Please report it with the log file that the message names and, if you may, the model or its inspection.",
    ),
    "bad_request": (
        "The request cannot be understood",
        "A header, a parameter or the body is not of the form that the interface documents.",
        "Compare the request with /openapi.json; the message names the part that is off.",
    ),
    "unauthorized": (
        "No valid key",
        "The request carries no API key, an unknown one, a revoked one, or one past its expiry.",
        "Send `Authorization: Bearer ID.SECRET`. An operator makes keys with `bnfold keys create`.",
    ),
    "forbidden": (
        "The key may not do this",
        "The key is valid, but the act is not among its scopes.",
        "Ask the operator for a key with the scope that the message names.",
    ),
    "not_found": (
        "No such thing",
        "Nothing of that name exists for this key's tenant; things of other tenants look the same.",
        "Check the id and the key. Finished jobs go after the retention time.",
    ),
    "conflict": (
        "The state does not allow it",
        "The thing is in a state in which the request makes no sense, or somebody else changed it meanwhile.",
        "Read its present state and decide again.",
    ),
    "gone": (
        "It was here once",
        "The thing existed, and its bytes have expired or were deleted.",
        "Submit the model again; equal input and options give the same result.",
    ),
    "precondition_failed": (
        "Somebody else was faster",
        "The ETag in If-Match or If-None-Match is not that of the present state, so nothing was changed.",
        "Read it again, look at what changed, and repeat with the new ETag.",
    ),
    "precondition_required": (
        "An unconditional overwrite is refused",
        "Changing this needs If-Match with the ETag that you read, so that nobody's change is lost.",
        "GET it first and send its ETag in If-Match.",
    ),
    "too_large": (
        "Above the size limit",
        "The body, a header or a field is larger than this service takes; a body is cut while it streams.",
        "Send less, or ask the operator to raise the limit (`BNFOLD_MAX_UPLOAD_BYTES`).",
    ),
    "headers_too_large": (
        "Headers above their limits",
        "A request carries more than 100 headers or more than 64 KiB of them. It was not read any further.",
        "Send fewer and shorter headers; large values belong into the body.",
    ),
    "too_many_connections": (
        "Too many open connections",
        "This HTTP process has as many open connections as it may (`BNFOLD_MAX_CONNECTIONS`).",
        "Try again in a moment; reuse connections; add HTTP processes with `BNFOLD_WEB_WORKERS`.",
    ),
    "request_incomplete": (
        "The connection ended before the body did",
        "Fewer bytes came than were announced. Nothing of them was kept, except by a resumable upload.",
        "Send it again; for large files on poor lines use the resumable uploads of /v1/uploads.",
    ),
    "unsupported_media_type": (
        "A Content-Type that is not taken here",
        "The route does not take a body of that type.",
        "The message names the types that would do.",
    ),
    "not_acceptable": (
        "No form of the answer fits",
        "None of the types in the Accept header can be produced.",
        "Ask for one of the types in the message, or leave Accept out.",
    ),
    "range_not_satisfiable": (
        "The range lies outside the bytes",
        "The Range header asks for bytes that the artifact does not have, or for several ranges.",
        "Ask for one range within the size that Content-Range tells.",
    ),
    "invalid": (
        "Understood, and wrong",
        "The request is well-formed, but a value cannot be right: an unknown option, a digest that does not fit.",
        "The message names the field and what was expected.",
    ),
    "quota_exceeded": (
        "Over the quota or the rate limit",
        "The tenant has too many jobs, stored bytes, uploaded bytes or requests for the moment.",
        "Wait as long as Retry-After says, or delete what is no longer needed.",
    ),
    "request_timeout": (
        "The request did not come in time",
        "Headers or body took longer than the service waits.",
        "Send again; for slow lines use the resumable upload.",
    ),
    "unavailable": (
        "A part of the service does not answer",
        "The database, the store or the workers cannot be reached right now.",
        "Try again after Retry-After; `/readyz` and `bnfold doctor --url ...` say which part it is.",
    ),
    "storage_full": (
        "The storage is full or failing",
        "The disk or bucket refused the bytes; nothing was acknowledged, and reading goes on.",
        "Operators: free or add space, the service recovers without a restart. Callers: try again later.",
    ),
    "machine_exhausted": (
        "The machine has run out of descriptors, memory or threads",
        "A process, a file or a thread that the work needs could not be had. The job waits and is tried again.",
        "Operators: look at open files, memory and threads of the service; it recovers without a restart.",
    ),
    "corrupt_blob": (
        "Stored bytes no longer match their digest",
        "A file changed under the service (bit-rot, a bad disk). Such bytes are never handed out.",
        "Submit the model again to make the artifact anew; operators should check the disk.",
    ),
    "provenance": (
        "The provenance statement does not hold",
        "The statement is not signed by the given key, is about other bytes, or its verdict is not pass.",
        "Get the service's public key from its operator (`bnfold keys signing`) and pull again. Do not deploy the bytes.",
    ),
    "runner_crashed": (
        "The process that ran the model died",
        "The sandboxed process was ended by a signal, typically a crash in native code of a framework. It was tried "
        "once more with the same result.",
        "Try the model through another format (for instance the frozen graph instead of the checkpoint), or with "
        "fewer outputs. Please report models that crash and are not hostile.",
    ),
    "device_lost": (
        "The device failed while it computed",
        "The GPU or its driver reported a failure after which nothing in the process can be trusted. The job is "
        "run again once, in a new process.",
        "Look at the device: `nvidia-smi -q`, the kernel's log. A model that brings it down every time can be "
        "folded without the provider.",
    ),
    "out_of_memory": (
        "The job needed more memory than it may use",
        "The sandboxed process reached its memory limit and was stopped.",
        "Raise the memory limit in the settings, use a worker with more memory, or fix dynamic input sizes to smaller "
        "ones with `--input NAME=SHAPE`.",
    ),
    "lost_lease": (
        "The worker lost its claim on the job",
        "The worker stopped answering (suspended, cut off, restarted) and another one took the job over; the late "
        "result of the first is refused.",
        "Nothing to do: the job goes on elsewhere. Many of these mean overloaded or sleeping worker machines.",
    ),
    "sandbox_violation": (
        "The model tried something that the sandbox forbids",
        "The kernel stopped the process at a forbidden system call or path.",
        "If the model is your own, please report it with the operation named in the message. Do not run it elsewhere "
        "unguarded.",
    ),
    "runner_unavailable": (
        "No runner process could be started",
        "The sandboxed process did not come up: no memory, no process slots, or a sandbox that this machine cannot "
        "offer.",
        "`bnfold doctor` says what is missing. The job is tried again by itself.",
    ),
}  # fmt: skip

HEALTH: Final[dict[str, Text]] = {
    "ok": (
        "Statistics look right",
        "Mean and variance are finite, positive, differ from their initial values and fit the layer.",
        "Nothing to do.",
    ),
    "never_updated": (
        "The moving statistics were never updated",
        "The moving mean is exactly 0 and the moving variance exactly 1, the values they start with: the update ops "
        "were not run in training. At inference the layer then does not normalize at all. If training itself also "
        "used these values, inference is right and the fold is exact; the evidence says which case it is.",
        "In TensorFlow 1 make the train op depend on `tf.get_collection(tf.GraphKeys.UPDATE_OPS)` and train on; or "
        "re-estimate the statistics from data with `--calibrate data.npz --recalibrate`.",
    ),
    "missing_from_checkpoint": (
        "The statistics are not in the checkpoint",
        "The graph has moving mean and variance, the checkpoint does not: typically `Saver(var_list=...)` was given "
        "the trainable variables only, and moving statistics are not trainable.",
        "Save again with `tf.global_variables()`; or recalibrate from data with `--calibrate data.npz --recalibrate`; "
        "or go on with 0 and 1 by `--missing-stats init`, which the report flags.",
    ),
    "batch_statistics_at_inference": (
        "The inference graph normalizes with the batch's own statistics",
        "Mean and variance are computed from the batch that is being predicted (tf.nn.moments, or training mode fixed "
        "to true). The answer for one sample depends on the others, and there is nothing constant to fold.",
        "Export with `training=False` / `is_training=False` if moving statistics exist; otherwise "
        "`--calibrate data.npz --recalibrate` measures constant ones and makes the layer foldable.",
    ),
    "degenerate_variance": (
        "A variance that is zero or nearly so",
        "Some channels have a variance far below epsilon: the channel was constant in training (dead or unused), and "
        "gamma / sqrt(variance + epsilon) is large and rests on epsilon alone.",
        "Usually harmless when few channels are concerned and gamma is small there; look at the amplification column. "
        "Many such channels point to a layer that collapsed in training.",
    ),
    "non_finite": (
        "NaN or infinity in the statistics",
        "At least one of mean, variance, gamma, beta is not a number or infinite. Training diverged or the file is "
        "damaged. The job stops: every output would be NaN.",
        "Take an earlier checkpoint; or recalibrate from data if gamma and beta are finite.",
    ),
    "negative_variance": (
        "A negative variance",
        "A variance cannot be negative; numerical cancellation or a damaged file made it so, and the square root is "
        "NaN where it exceeds epsilon. The job stops.",
        "Take another checkpoint, or recalibrate from data with `--calibrate data.npz --recalibrate`.",
    ),
    "lagging": (
        "The statistics disagree with the data",
        "On the calibration data the layer's inputs have a clearly different mean or variance than the moving "
        "statistics say: the moving averages lag (momentum too high, too few steps), or the data is of another kind.",
        "If the data is representative, replace the statistics with `--recalibrate`; the report then compares old and "
        "new and what it does to the outputs.",
    ),
}  # fmt: skip

SKIPS: Final[dict[str, Text]] = {
    "batch_statistics": (
        "Normalizes with the batch's own statistics",
        "Mean and variance are computed at run time, so there is no constant affine to fold.",
        "Export in inference mode, or recalibrate from data to get constant statistics.",
    ),
    "training_mode": (
        "BatchNormalization in training mode",
        "The node has training_mode=1: it normalizes with batch statistics and updates its moving ones.",
        "Export the model in inference mode (`model.eval()`, `training=False`).",
    ),
    "runtime_parameters": (
        "The parameters are computed at run time",
        "Scale, shift, mean or variance depend on the graph's inputs, so they are no constants.",
        "Nothing, if that is intended (conditional normalization). Otherwise freeze the variables before export.",
    ),
    "overridable_initializer": (
        "The parameters can be overridden by the caller",
        "The initializers are also graph inputs, so a caller may feed other values; folding would take that away.",
        "If nobody feeds them, use `--freeze-inputs`.",
    ),
    "no_linear_neighbour": (
        "No linear layer to fold into",
        "Neither before nor after the norm is there a Conv, Gemm, MatMul or other layer that can absorb it exactly.",
        "Nothing: what is left is one BatchNormalization or one Mul and Add, which is the least.",
    ),
    "shared_producer_output": (
        "The layer before it is also used elsewhere",
        "Another consumer reads the un-normalized value, so changing the weights would change that branch too.",
        "Nothing: duplicating the layer would cost more than the norm does.",
    ),
    "graph_output": (
        "The un-normalized value is a graph output",
        "The model returns the value before the norm as well, so the layer's weights may not change.",
        "If that output is not needed, leave it out with `--output`.",
    ),
    "shared_weights": (
        "The weights are shared with a layer that disagrees",
        "Several layers use the same weights under different norms, and copies would not pay.",
        "Nothing: the sharing is part of the model.",
    ),
    "runtime_weights": (
        "The weights are computed at run time",
        "The layer's kernel is no constant, so nothing can be multiplied into it beforehand.",
        "Freeze the weights before export if they are meant to be constant.",
    ),
    "channel_axis_lost": (
        "The channel axis does not survive the way to the layer",
        "Between norm and layer a Reshape or a similar node mixes channels with other axes.",
        "Nothing, unless the model can be exported without that Reshape.",
    ),
    "nonlinearity_between": (
        "A nonlinearity stands between",
        "An activation or another non-affine node separates the norm from the layer that could absorb it.",
        "Nothing: an exact fold does not exist.",
    ),
    "negative_scale": (
        "A negative scale cannot pass the node between",
        "ReLU and MaxPool commute with positive scales only, and at least one channel's scale is not positive.",
        "Nothing: folding would change the result.",
    ),
    "padded_shift": (
        "The shift does not pass the zero padding",
        "A padded convolution reads zeros at the border, where the shift is not present; only the scale folds.",
        "Nothing: the shift stays as one Add or a border map.",
    ),
    "would_overflow": (
        "Folded weights would overflow",
        "In the weights' dtype some folded values would be infinite.",
        "Export in a wider dtype (float32 instead of float16), or retrain with bounded amplification.",
    ),
    "would_underflow": (
        "Folded weights would underflow",
        "In the weights' dtype folded values would vanish to zero although they are not.",
        "Export in a wider dtype (float32 instead of float16).",
    ),
    "unknown_shape": (
        "A shape is not known",
        "The rank or the channel count between norm and layer is not known statically, so exactness cannot be shown.",
        "Give shapes with `--input NAME=SHAPE`.",
    ),
    "control_flow_boundary": (
        "A control-flow border lies between",
        "Norm and layer are in different bodies (If, Loop, Scan), and the body may run any number of times.",
        "Fix the mode with `--feed` if the condition is a constant in practice.",
    ),
    "quantized_weights": (
        "The quantized weights have no scale to take it",
        "A fold would need one quantization scale for each channel along this axis; the weights have one for all, or "
        "along another axis.",
        "Fold before quantizing, or quantize per output channel (opset 13 or newer).",
    ),
    "quantized_activation": (
        "A quantization stands between",
        "Between norm and layer the activation is rounded to integers, and an affine does not commute with rounding.",
        "Fold before quantizing.",
    ),
    "quantized_negative_scale": (
        "Quantized weights cannot take a negative scale",
        "Per-channel quantization scales are positive; flipping the stored integers would leave their range.",
        "Fold before quantizing.",
    ),
    "per_activation": (
        "Statistics for every element, not for every channel",
        "The norm has its own mean and variance at each position (`spatial=0` of old opsets), so no channel affine "
        "describes it and the layer before it cannot take it.",
        "Nothing: re-train with per-channel statistics if the norm shall vanish.",
    ),
    "not_in_graph": (
        "The layer has no trace in the inference graph",
        "The checkpoint holds the layer's variables, but nothing that leads to the outputs uses them.",
        "Nothing, if the layer belongs to training or to another output; else name that output with `--output`.",
    ),
    "unhealthy": (
        "The statistics are unhealthy",
        "The layer was left as it is because its statistics are not fit to be folded.",
        "See the health findings of the layer.",
    ),
}  # fmt: skip

HAZARDS: Final[dict[str, Text]] = {
    "ill_conditioned": (
        "The model itself amplifies rounding",
        "Every layer of the artifact agrees with the source up to rounding, but some layer of the model amplifies rounding "
        "so much (a logarithm of almost zero, a division by a small difference) that two correct runs of the source differ "
        "visibly. The finding names the input, the first such layer and the factor. It is no fault of the fold.",
        "Compare outputs of this model with a wide tolerance, or keep inputs away from where it shows (silence, say).",
    ),
    "pad_fusion_max_pool": (
        "Zeros before a max pool become minus infinity",
        "ONNX Runtime's Pad_Fusion (basic level and above) merges a Pad with zeros into the MaxPool behind it, which pads "
        "with -inf. Every window at the border that holds only negative values then gives another result. Exports of "
        "ResNet50V2 have this pattern and are off by 14 % at the runtime's defaults.",
        "The artifact is written so that the fusion cannot match. For the source itself, open the session with "
        '`disabled_optimizers=["PadFusion", "Pad_Fusion"]`.',
    ),
    "matmul_bn_fusion_moved_axis": (
        "A batch norm is merged along the wrong axis",
        "ONNX Runtime's MatMul_BatchNormalization_Fusion merges a BatchNormalization into a MatMul even when a Transpose "
        "or Reshape between them has moved the channel axis, and scales the wrong axis of the weight.",
        "The artifact keeps no batch norm in that place. For the source itself, open the session with "
        '`disabled_optimizers=["MatMul_BatchNormalization_Fusion"]`.',
    ),
    "qdq_matmul_accuracy": (
        "Quantized weights make the runtime round activations too",
        "A MatMul whose weights are dequantized in the graph is fused by ONNX Runtime (QDQSelectorActionTransformer, extended "
        "level and above) into one that rounds its activations to 8 bits by default: answers move by about 1 % although only "
        "the weights were quantized. Where the source moves the same way, the artifact is not judged at that level.",
        'Open the session with `add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")` to compute in '
        "float32, or accept the loss for the speed.",
    ),
    "weight_bias_quantization": (
        "Float parameters between quantizers are rounded to integers",
        "A Conv or Gemm with float weights or a float bias between a DequantizeLinear and a QuantizeLinear gets them "
        "quantized by ONNX Runtime (WeightBiasQuantization, basic level and above): results move by a step of the "
        "quantizer. Where the source moves the same way, the artifact is not judged at that level.",
        'Open the session with `disabled_optimizers=["WeightBiasQuantization"]`, or accept the step.',
    ),
    "optimization_level": (
        "The runtime's optimization levels disagree",
        "The same file gives different answers with graph optimizations off and on, beyond the float noise of the model. "
        "The report names the lowest level that differs and, where one can be switched off alone, the optimizer.",
        "Deploy with the session option that the report gives, and report the model to the runtime's makers. The verdict "
        "stays `fail` as long as the artifact is wrong at the runtime's defaults.",
    ),
}  # fmt: skip


def join(*tables: Mapping[str, Text]) -> dict[str, Text]:
    """Return one table of all. Raises ValueError for a code that two of them explain."""
    joined: dict[str, Text] = {}
    for table in tables:
        twice = sorted(joined.keys() & table.keys())
        if twice:
            raise ValueError(f"codes explained twice: {', '.join(twice)}")
        joined.update(table)
    return joined


ERRORS: Final = join(_ERRORS, READING, REFUSED, SERVICE)
KINDS: Final[dict[str, dict[str, Text]]] = {
    "error": ERRORS,
    "health": HEALTH,
    "skip": SKIPS,
    "hazard": HAZARDS,
}
EXAMPLES: Final[dict[str, dict[str, str]]] = {
    "error": {},
    "health": HEALTH_EXAMPLES,
    "skip": SKIP_EXAMPLES,
    "hazard": HAZARD_EXAMPLES,
}
for _kind, _examples in EXAMPLES.items():
    if _unknown := sorted(_examples.keys() - KINDS[_kind].keys()):
        raise ValueError(f"examples for codes that do not exist: {', '.join(_unknown)}")


@dataclass(frozen=True)
class Entry:
    """One code of one kind (`error`, `health`, `skip`, `hazard`) with its explanation."""

    code: str
    kind: str
    title: str
    meaning: str
    remedy: str
    example: str = ""


def entries() -> list[Entry]:
    """All of them, by kind in table order."""
    return [
        Entry(code, kind, *text, example=EXAMPLES[kind].get(code, ""))
        for kind, table in KINDS.items()
        for code, text in table.items()
    ]


def lookup(code: str) -> list[Entry]:
    """Entries for a code; a code may be of several kinds. Dashes and case do not matter. Empty if unknown."""
    wanted = code.strip().lower().replace("-", "_")
    return [entry for entry in entries() if entry.code.lower() == wanted]


def similar(code: str, count: int = 3) -> list[str]:
    """Known codes that look like an unknown one."""
    known = sorted({entry.code for entry in entries()})
    return difflib.get_close_matches(code.strip().lower().replace("-", "_"), known, n=count, cutoff=0.5)
