"""The steps of `prepare_inference_graph`, by what they settle."""
