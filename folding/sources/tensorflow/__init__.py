"""TensorFlow sources: graph surgery on the protobuf, structure-first conversion, weights bound last.

    GraphDef -> cut at the ports -> calls inlined -> mode flags set -> Switch/If resolved
             -> variables and large constants become placeholders -> grappler, tf2onnx -> weights bound

Nothing here runs at import time; TensorFlow is imported inside functions.
"""
