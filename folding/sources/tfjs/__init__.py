"""TensorFlow.js graph models: a GraphDef again, from JSON and shards, that goes TensorFlow's way."""
