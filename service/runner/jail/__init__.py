"""The sandbox of one runner process: what it applies to itself before it reads anything."""

from service.runner.jail.sandbox import JailSpec, enter

__all__ = ["JailSpec", "enter"]
