"""Artifacts in the forms that other tools keep models in. Each needs its own extra."""
