"""TensorFlow Lite: the file by its gate, the graph by tf2onnx, the reference by the LiteRT interpreter."""
