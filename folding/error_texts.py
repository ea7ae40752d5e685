"""Explanations of the finer error codes: of reading models, of refusing hostile ones, of the service.

Part of `folding.catalogue`, which joins these tables to its own; same form: code -> (title, meaning, remedy).
"""

# Prose in tables: long lines and implicit concatenation read better here than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

Text = tuple[str, str, str]

_AGAIN = "Copy or export the model again; if it is as it should be, please report it."
_ONE = "Send one of them, in a folder or archive of its own."

READING: Final[dict[str, Text]] = {
    "malformed_model": (
        "A structure that contradicts itself",
        "The format was recognised, and something in it made its reader fail in a way that no valid file does.",
        "Export or copy the model again; if it loads elsewhere, please report it.",
    ),
    "empty_file": ("The file is empty", "The upload has no bytes, so there is nothing to recognise.", "Check the path and the export, and send it again."),
    "empty_archive": ("The archive holds no files", "It could be unpacked, and nothing was in it.", "Pack the model's files, not only their folder."),
    "empty_graph": ("The graph has no nodes", "The MetaGraph or GraphDef was read, and it is empty.", "Save the graph that computes the outputs, not a fresh one."),
    "corrupt_protobuf": ("The file is no complete protocol buffer", "The bytes begin like a TensorFlow file and end early or contradict themselves.", _AGAIN),
    "corrupt_checkpoint": ("The checkpoint is damaged", "Its index or data cannot be read: cut short, a wrong checksum, or sizes that do not fit.", "Copy all files of the checkpoint again, from the same save."),
    "corrupt_keras": ("The Keras file is damaged", "The HDF5 or zip structure ends early or cannot be read.", "Copy or save the model again."),
    "missing_shard": ("A data shard is missing", "The checkpoint index names shards that are not among the files.", "Send every .data-?????-of-????? file of the checkpoint."),
    "missing_weights": ("A graph without weights", "There is a .meta file or data shards, and no .index that says what is where.", "Add the .index and .data-* files that were saved with it."),
    "missing_variables": ("Weights that the graph needs are not in the checkpoint", "Variables that are no moving statistics are absent, so there is nothing to compute with.", "Send the checkpoint that belongs to this graph. Variables may have been renamed, or saved by a `var_list`."),
    "checkpoint_without_graph": ("Weights without a graph", "A checkpoint alone can be inspected, but folding needs the graph.", "Add its .meta file, or the inference graph (.pb), to the upload."),
    "checkpoint_mismatch": ("Graph and checkpoint disagree", "A variable has another shape or dtype in the graph than in the checkpoint: they are not of the same program.", "Send the .meta that was saved with this checkpoint."),
    "ambiguous_checkpoints": ("Several checkpoints", "The folder holds more than one, and a guess would be silent.", "Name the step with `--step`, or send one of them."),
    "ambiguous_graphs": ("Several graphs", "More than one GraphDef is in the upload.", _ONE),
    "ambiguous_keras_files": ("Several Keras files", "More than one .keras or .h5 is in the upload.", _ONE),
    "ambiguous_saved_models": ("Several SavedModels", "More than one saved_model.pb is in the upload.", _ONE),
    "ambiguous_signature": ("Several signatures", "The SavedModel has more than one, and none is called serving_default.", "Name one with `--signature`; `bnfold inspect` lists them."),
    "ambiguous_outputs": ("The outputs cannot be told from the graph", "More than one node could be what inference computes. The candidates are listed.", "Name what you want with `--output NAME`, repeatedly for several."),
    "no_signature": ("No signature", "The SavedModel does not say what to compute.", "Save it with signatures, or name inputs and outputs with `--input` and `--output`."),
    "unknown_signature": ("No such signature", "The SavedModel has signatures, and none of that name.", "`bnfold inspect` lists them."),
    "unknown_tags": ("No graph with these tags", "A SavedModel holds one graph for each set of tags, and none for the given one.", "`bnfold inspect` lists them; name them with `--tag`."),
    "unknown_step": ("No checkpoint of that step", "The folder holds checkpoints, none with the given step.", "The message lists the steps that are there."),
    "unknown_input": ("No such input", "A name given with --input or --feed is not in the graph.", "`bnfold inspect` lists inputs and candidates; names are case-sensitive."),
    "unknown_output": ("No such output", "A name given with --output is not in the graph.", "`bnfold inspect` lists outputs and candidates."),
    "input_shape": ("A shape that does not fit", "The shape given with --input contradicts the one that the model declares.", "Give sizes for the unknown dimensions only."),
    "unbound_input": ("An input that nobody feeds", "The outputs depend on a placeholder that is neither an input nor a known mode flag.", "Give it a value with `--feed NAME=VALUE`, or make it an input with `--input NAME`."),
    "no_ema": ("No shadow variables", "--use-ema was asked for, and the checkpoint has no ExponentialMovingAverage of any weight.", "Leave --use-ema out, or send the checkpoint that has them."),
    "tensorflow_missing": ("TensorFlow is not installed", "This format needs TensorFlow, and the environment has none; ONNX models work without it.", "Install the extra: pip install 'bnfold[tensorflow]'."),
    "unsupported_op": ("An operation that cannot be converted", "The graph uses an operation without an ONNX form here; the message names node and operation.", "Choose outputs before it with `--output`, or export the model without it."),
    "unsupported_resource": ("A resource that cannot be converted", "The model holds a lookup table, iterator or another resource that is no variable.", "Export the part of the model that works on tensors."),
    "unsupported_variable_use": ("A variable is used in a way that has no value form", "The inference graph writes to a variable, or hands it on as a reference.", "Export the inference graph without the update."),
    "conversion_failed": ("The conversion failed", "Both ways of converting the graph ended in an error; the message has the last words of each.", "Try another format of the same model (SavedModel, frozen graph), and please report it."),
    "reference_unavailable": ("The source framework cannot run the model", "The model was converted, but TensorFlow itself refuses to run it here, so it cannot be the reference.", "Export the model with a newer TensorFlow, or as ONNX."),
    "missing_function": ("A function is missing", "The graph calls a function that its library does not hold.", _AGAIN),
    "function_arity": ("A call does not fit its function", "A node passes another number of inputs than the function takes.", _AGAIN),
    "dangling_reference": ("A reference to nothing", "A node reads a value that no node of the graph or function makes.", _AGAIN),
    "recursive_function": ("A function that calls itself", "Functions of a graph must end; this one does not.", "Export the model without recursion."),
    "function_expansion": ("Functions expand too far", "With every call written out the graph has more nodes than are read.", "Export a flatter graph."),
    "keras_config": ("Layers that cannot be rebuilt", "Keras cannot make the model from its configuration, typically because of a class of your own.", "Export a SavedModel (`model.export`), which needs no classes."),
    "unbuilt_model": ("A model that was never called", "Keras saved it before it knew its input shape.", "Call it once on data, then save it."),
    "weights_only": ("Weights without a model", "The file was written by save_weights, so the layers are missing; it can be inspected, not folded.", "Save the whole model with `model.save`."),
    "invalid_onnx": ("The ONNX file is not valid", "The file was read and does not pass the checker's rules.", "The message names the node; `onnx.checker.check_model(path, full_check=True)` says more."),
    "unknown_op": ("An operator that ONNX does not have", "The graph uses an operator or a domain that is neither ONNX's nor defined in the file.", "Custom operators cannot be verified here; export the model without them."),
    "unknown_opset": ("An opset that is not known", "The model asks for an opset that this version does not support.", "Export with an opset between 7 and 26."),
    "opset_conversion": ("The opset cannot be changed that far", "No conversion exists between the model's opset and the one asked for.", "Leave --opset out, or ask for one nearer to the source's."),
    "checker_refused": ("The result does not pass the onnx checker", "The source is unusual or a defect of bnfold made it so; nothing was published.", "Check the source with onnx.checker; if it passes there, please report it."),
    "external_data_missing": ("A file of weights is missing", "The ONNX file keeps weights in another file that was not sent.", "Send the folder or an archive with every file."),
    "external_data_path": ("Weights outside the model's folder", "The location of external data is absolute or leaves the folder.", "Save the model with `onnx.save(..., save_as_external_data=True)` into one folder."),
    "external_data_out_of_range": ("Weights beyond the end of their file", "Offset and length point outside the data file: it is cut short or belongs to another model.", "Copy the data file again."),
    "calibration_data": ("Calibration data that does not fit", "Arrays are missing, empty, of another shape than the inputs, or of different lengths.", "Save one array for each input under its name, the first axis being the samples."),
    "calibration_failed": ("The model cannot run on the calibration data", "The runtime refused the data; the message has its words.", "Check dtypes and value ranges of the arrays."),
}  # fmt: skip

_REEXPORT = "If the model is your own, export it again without that; nothing of it was executed."

REFUSED: Final[dict[str, Text]] = {
    "unsafe_archive_bomb": ("The archive inflates too far", "Unpacked it is larger than the limit, which counts bytes while inflating.", "Send the model unpacked, or raise the limit if it is really that large."),
    "unsafe_archive_members": ("Too many members", "The archive lists more files than are read.", "Pack the model's own files only."),
    "unsafe_archive_link": ("A link in the archive", "Links can point outside the folder, so none are made.", "Pack files instead of links (`tar --dereference`)."),
    "unsafe_archive_device": ("A member that is no regular file", "Devices, pipes and sockets are no part of a model.", "Pack regular files only."),
    "unsafe_archive_name": ("A name that leaves the folder", "A member's name is absolute, contains `..`, or has characters that file systems read in their own way.", "Pack with relative, plain names."),
    "unsafe_archive_duplicate": ("A member occurs twice", "Two members have one name, and which one counts would be a guess.", "Pack each file once."),
    "unsafe_archive_collision": ("Two names that some file systems take for one", "Names differ only in case or in Unicode form.", "Rename one of the files."),
    "unsafe_archive_encrypted": ("An encrypted member", "Its content cannot be checked.", "Pack without encryption."),
    "unsafe_archive_method": ("A compression method that is not read", "Only stored and deflated members are.", "Pack with the usual method."),
    "unsafe_archive_sparse": ("A sparse file", "Sparse members declare sizes that the archive does not hold.", "Pack without --sparse."),
    "unsafe_op": ("An operation that reaches outside the model", "It reads or writes files, the network or the process, which inference never needs.", _REEXPORT),
    "unsafe_dimensions": ("Dimensions beyond the limit", "A shape's product is larger than any real tensor; allocating it would take the machine down.", _REEXPORT),
    "unsafe_expansion": ("Constants that expand too far", "A small constant is blown up to a huge one at load time.", _REEXPORT),
    "unsafe_graph_size": ("Too many nodes", "The graph has more nodes than are read.", "Export a flatter graph, or raise the limit for models that you trust."),
    "unsafe_function_expansion": ("Functions that expand too far", "With every call written out, the graph is beyond the limit: a few functions can double each other to billions.", _REEXPORT),
    "unsafe_function_recursion": ("A function that calls itself", "Loading it would never end, or crash the loader.", _REEXPORT),
    "unsafe_function_depth": ("Functions nested too deep", "Calls nest deeper than the limit, which crashes loaders.", _REEXPORT),
    "unsafe_subgraph_depth": ("Bodies nested too deep", "If, Loop and Scan bodies nest deeper than the limit.", _REEXPORT),
    "unsafe_recursion": ("Nested deeper than can be followed", "The structure nests until the reader's stack ends.", "Flatten nested models or functions before exporting."),
    "unsafe_loop": ("A loop with too many rounds", "Its constant trip count would keep a machine busy for ever.", _REEXPORT),
    "unsafe_attribute": ("An attribute that is too large", "An attribute holds more items than any operation needs.", _REEXPORT),
    "unsafe_name": ("A name that is too long", "A name of a node, value or operator set is longer than any real one.", "Rename it."),
    "unsafe_asset_path": ("An asset outside the model's folder", "The SavedModel refers to files that are not its own.", _REEXPORT),
    "unsafe_external_data": ("External data that is not the model's own", "Its location leaves the folder, is a link, or lies beyond the file's end.", "Save the model and its data into one folder of plain files."),
    "unsafe_hdf5_link": ("A link in the HDF5 file", "Soft and external links can read other files of the machine.", "Save the model again with Keras; it makes no links."),
    "unsafe_hdf5_storage": ("A dataset with external storage", "Its data would be read from another file of the machine.", "Save the model again with Keras."),
    "unsafe_hdf5_filter": ("A dataset that needs a filter plug-in", "Plug-ins are code that HDF5 would load.", "Save without compression filters other than gzip."),
    "unsafe_hdf5_size": ("Datasets larger than their file", "The file declares more bytes than it can hold; reading it would exhaust memory.", "Save the model again."),
    "unsafe_hdf5_depth": ("Groups nested too deep", "The HDF5 file nests deeper than any model.", _REEXPORT),
    "unsafe_hdf5_objects": ("Too many HDF5 objects", "The file has more groups and datasets than any model.", _REEXPORT),
    "unsafe_config_depth": ("A configuration nested too deep", "Its JSON nests deeper than any model's.", _REEXPORT),
    "unsafe_config_size": ("A configuration that is too large", "Its JSON is larger than any model's.", _REEXPORT),
    "unsafe_keras_class": ("A class that is not on the list", "The configuration names a class outside Keras' own built-in layers: Lambda, a registered or foreign one. Such a class is code.", "Replace it by built-in layers, or export a SavedModel."),
    "unsafe_keras_member": ("A member that a .keras file does not have", "Only configuration, metadata, weights and assets belong there.", "Save the model again with Keras."),
    "unsafe_keras_name": ("A layer whose name could be a path", "Names with slashes, backslashes, dots or NUL have been used to write files.", "Rename the layer."),
    "unsafe_keras_file": ("A layer that reads a file", "A vocabulary or another setting is a path of the machine.", "Give the vocabulary as a list."),
    "unsafe_disk_use": ("The job wrote too much", "It wrote more bytes than a job may.", "Raise the disk limit if the model is really that large."),
    "sandbox_unavailable": ("No sandbox holds here", "The canary escaped: on this machine a model could harm more than its own process, so nothing is run.", "Use Linux 5.13 or newer with Landlock and seccomp, or accept the risk for models that you trust with --allow-unsandboxed."),
}  # fmt: skip

SERVICE: Final[dict[str, Text]] = {
    "bad_json": ("Not valid JSON", "The body or a field that should be JSON cannot be parsed.", "Check quotes and commas; shells eat quotes."),
    "bad_form": ("A form that cannot be read", "The multipart body is malformed, or a part is missing or unknown.", "Send the parts `model`, and if wanted `options`, `calibration`, `probe`."),
    "bad_host": ("A host name that is not served", "The Host header names something else than this service, as in a DNS rebinding attack.", "Operators: add the name to BNFOLD_ALLOWED_HOSTS."),
    "cross_origin": ("A request of another site's page", "Browsers of visitors to other sites may not use the service.", "Use the service's own pages, or send requests without an Origin."),
    "bad_page_token": ("An unknown page token", "The token was not given by this service, or was changed.", "Start again without page_token."),
    "bad_event_id": ("Last-Event-ID is no number", "The header must be the id of an event of this stream.", "Send the last id that you received, or leave it out."),
    "bad_upload": ("An upload request that is off", "A header of the resumable upload is missing or has no sense.", "See the tus 1.0 protocol; the message names the header."),
    "tus_version": ("Another version of tus", "Only version 1.0.0 of the resumable upload protocol is spoken.", "Send `Tus-Resumable: 1.0.0`."),
    "unknown_option": ("An option that does not exist", "The name is not among the options of a fold.", "GET /v1/capabilities lists the options; a typo is the usual reason."),
    "empty_body": ("An empty body", "The request has no bytes.", "Send the model's bytes, e.g. with `curl --data-binary @model`."),
    "digest_mismatch": ("The bytes do not have their digest", "What arrived is not what the digest says: cut, changed on the way, or the digest of another file.", "Send or fetch again; compare with sha256sum."),
    "checksum_mismatch": ("A piece was damaged on its way", "The checksum of this part of a resumable upload does not fit its bytes.", "Send the same piece again."),
    "offset_mismatch": ("The upload is at another offset", "Another request went on meanwhile, or an answer was lost.", "HEAD tells the offset; go on from there."),
    "length_mismatch": ("More bytes than announced", "The upload would become longer than its Upload-Length.", "Start a new upload with the right length."),
    "upload_locked": ("Somebody else is writing", "Another request is sending to this upload right now.", "Wait until it has ended, then ask for the offset."),
    "upload_expired": ("The upload has expired", "It was not finished in time and its bytes are gone.", "Start a new upload."),
    "no_report": ("No report", "The job has not ended yet, or ended without one.", "Wait for the end; a failed job has its `error` instead."),
    "quarantined": ("The artifact is quarantined", "Its verdict is not pass, so it is not handed out.", "The job's report tells why. For a look at the bytes: ?allow_quarantined=true, or `bnfold pull --rejected`."),
    "artifact_lost": ("The artifact's bytes are lost", "The record is there, the bytes are gone from the store.", "Run its job again; equal input and options make equal bytes."),
    "blob_missing": ("Bytes that are not there", "The store has no blob of that digest.", "Upload it again."),
    "blob_not_found": ("No such blob", "This tenant has not uploaded bytes of that digest.", "PUT them to /v1/blobs/<digest> first."),
    "public_bind_without_key": ("A public address without a key", "Anybody could use the service as its owner, so it refuses to start.", "Make a key with `bnfold keys create`, or bind 127.0.0.1."),
    "key_revoked": ("The key was revoked", "The key was valid once and has been ended by its operator.", "Ask for a new one."),
    "key_expired": ("The key has expired", "The time that it was made for is over.", "Ask for a new one; operators rotate keys with an overlap."),
    "missing_scope": ("The key lacks a scope", "The key is valid, but does not have the scope that this act needs.", "Ask for a key with the scope in the message."),
    "rate_limited": ("Too many requests", "More requests in a minute than this tenant may make.", "Wait as long as Retry-After says."),
    "unreachable": ("The service does not answer", "No connection could be made, or it broke.", "Is it running, and is the address right? `bnfold serve` starts one."),
    "idempotency_key_reused": ("An Idempotency-Key for two different requests", "The key was used before with other input or options.", "Use a fresh key for different work."),
    "wrong_state": ("Not in this state", "The act does not fit the job's state, such as cancelling one that has ended.", "Look at the job's state first."),
    "in_use": ("Still in use", "A release points to it, and releases keep what they point to.", "Delete the release first."),
    "bad_webhook_url": ("A webhook address that cannot be used", "It is no http or https URL.", "Give a full URL."),
    "private_webhook_target": ("A webhook into a private network", "Its address is private or loopback, where it could reach what outsiders may not.", "Operators may allow it with BNFOLD_WEBHOOK_ALLOW_PRIVATE."),
}  # fmt: skip

MORE_ERRORS: Final[dict[str, Text]] = READING | REFUSED | SERVICE
