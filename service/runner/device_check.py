"""Find out whether a device works where jobs would use it: a real session in a real sandboxed runner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from folding.errors import BnfoldError
from service.runner.children.launch import best_way, start_child
from service.runner.config import RunnerConfig
from service.runner.jail.sandbox import LAYERS

ENTRY: Final = "service.runner.device_check"


@dataclass(frozen=True)
class DeviceState:
    """Whether sessions start on the device. `layers`: those of the sandbox that keep them from it.

    `detail` says what failed, with the library or the call of the driver; empty where nothing did.
    """

    ok: bool
    detail: str = ""
    layers: tuple[str, ...] = ()


def run_job(job: dict[str, Any], channel: Any) -> None:
    """Be the runner's side: test one provider, and tell what does not work."""
    from folding.verify.providers.self_test import self_test

    channel.send(tested={"detail": self_test(job["provider"]) or ""})


def check_device(config: RunnerConfig, provider: str = "cuda", entry: str = ENTRY) -> DeviceState:
    """Test `provider` in a runner as jobs get it; where it fails, find the layer that is to blame.

    No model of a user is near: the same test runs again without the sandbox, and in each layer alone.
    """
    inside = replace(config, cuda=True, warm=(), entry=entry)
    try:
        wrapped, _ = best_way(inside)
    except BnfoldError as error:
        return DeviceState(False, error.message)
    detail = _tried(inside, wrapped, provider)
    if not detail:
        return DeviceState(True)
    if outside := _tried(replace(inside, layers=()), False, provider):
        return DeviceState(False, f"without the sandbox as well: {outside}")
    blamed = tuple(name for name, why in _each_layer(inside, wrapped, provider) if why)
    words = ", ".join(blamed) or "all layers together"
    return DeviceState(False, f"the sandbox keeps it from the device ({words}): {detail}", blamed)


def _each_layer(config: RunnerConfig, wrapped: bool, provider: str) -> Iterator[tuple[str, str]]:
    for layer in LAYERS:
        yield layer, _tried(replace(config, layers=(layer,)), False, provider)
    if wrapped:
        yield "bubblewrap", _tried(replace(config, layers=()), True, provider)


def _tried(config: RunnerConfig, wrapped: bool, provider: str) -> str:
    """Return what failed in one fresh runner, empty for nothing."""
    try:
        child = start_child(config, wrapped=wrapped, modules=())
    except BnfoldError as error:
        return error.message
    try:
        child.wait_until_warm()
        child.send(job={"provider": provider})
        return str(child.wait_for("tested").get("detail", ""))[:1000]
    except (BnfoldError, OSError) as error:
        return f"the process ended while it was tested: {error}"[:1000]
    finally:
        child.close()
