"""Quantization operations of TensorFlow, spelled so that ONNX computes the same."""
