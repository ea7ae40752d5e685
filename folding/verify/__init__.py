"""Proof that an artifact computes what its source computes. See docs/explanation for the reasoning.

`pipeline.verify_fold` is the last stage of a fold, `pipeline.verify_models` compares any two models, and
`steps.recheck_certificates` checks certificates again from the source and the artifact alone.

This file imports nothing: `folding/__init__` loads it, so that the name `folding.verify` can mean the public
function.
"""
