"""The gate for ONNX models."""

from folding.sources.gates.onnx.model import check_onnx

__all__ = ["check_onnx"]
