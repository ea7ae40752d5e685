"""Static checks of untrusted models, one module per format; they run before any framework sees a byte.

A gate parses with code of its own or with plain JSON/protobuf/HDF5 readers, executes nothing of the
model, and either returns or raises `UnsafeModel` (a limit or an allow-list is broken) or `CorruptModel`
(the bytes contradict themselves). The figures and their reasons stand in `limits.py`.
"""
