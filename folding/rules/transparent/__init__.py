"""Nodes that an affine passes: what it becomes on the other side, or why it stops.

Each rule maps affines arrays-to-arrays; the engine does the walking.
"""
