"""What became of each batch norm, told from what the sites went through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from folding.norms import input_affines
from folding.norms.base import BatchNorm
from folding.rules import certificate as cert
from folding.rules.absorbers.linear import Linear
from folding.rules.base import Decision, Direction, Skip, SkipReason
from folding.rules.engine import AffineSite, PropagationPlan
from folding.rules.interface import Absorbed, Side

Written = Mapping[Linear, cert.Rounding | Skip]


def decision(norm: BatchNorm, site: AffineSite, roundings: Written) -> Decision:
    """Folded where nothing of it stays, kept with the reason that matters, or half of each."""
    absorbers = list(_final_absorbers(site))
    failed = [r for a in absorbers if isinstance(r := roundings.get(a), Skip)]
    written = [a for a in absorbers if isinstance(roundings.get(a), cert.Rounding)]
    into = tuple(dict.fromkeys(a.name for a in written))
    certificate = cert.merge(
        cert.certificate(r) for a in written if isinstance(r := roundings[a], cert.Rounding)
    )
    if failed:
        return Decision(norm, False, into, None, failed[0].reason, failed[0].detail, certificate)
    stays = staying(site)
    if stays is None:
        return Decision(norm, True, into, site.direction, None, "", certificate)
    skip = _main_reason(stays)
    half = bool(site.absorbers)
    return Decision(norm, half, into, site.direction if half else None, skip.reason, skip.detail, certificate)


def completed(first: Decision, later: Decision) -> Decision:
    """A norm that stayed, or half of it, and went in a later round: into what both rounds say."""
    certificates = (item for item in (first.certificate, later.certificate) if item is not None)
    return replace(
        later,
        norm=first.norm,
        into=tuple(dict.fromkeys((*first.into, *later.into))),
        direction=later.direction if first.direction in (None, later.direction) else "both",
        certificate=cert.merge(certificates),
    )


# Other exact forms of what stays for these reasons, measured with `python -m bench.exact_forms` on ONNX
# Runtime's CPU provider (decision record 0032): none is faster than the norm.
_TRIED = {
    SkipReason.SHARED_PRODUCER_OUTPUT: "a copy of the layer with the norm in it is slower than the norm",
    SkipReason.NEGATIVE_SCALE: "signs as a Mul, or channels in two groups by sign, are slower than the norm",
}


def _main_reason(site: AffineSite) -> Skip:
    """What kept it from its producer; where that is merely no linear node, what kept it from its consumers.

    That the norm's own output is the graph's is no reason by itself: it would not matter with a producer.
    """
    if not site.skips:
        return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, "")
    detail = "; ".join(
        f"{word} it: {skip.detail}" for word, skip in zip(("before", "after"), site.skips, strict=False)
    )
    reasons = dict.fromkeys(skip.reason for skip in site.skips)
    tried = [site.tried, *(_TRIED[reason] for reason in reasons if reason in _TRIED)]
    if any(tried):
        detail = f"{detail}; tried: {'; '.join(word for word in tried if word)}"
    plain = (SkipReason.NO_LINEAR_NEIGHBOUR, SkipReason.GRAPH_OUTPUT)
    reason = site.skips[0].reason
    at_input = site.norm is not None and site.norm.spelling == input_affines.SPELLING  # nothing is before it
    behind = site.skips[1].reason if len(site.skips) > 1 else reason
    if at_input or (reason is SkipReason.NO_LINEAR_NEIGHBOUR and behind not in plain):
        reason = behind
    return Skip(reason, detail)


def direction(site: AffineSite, plan: PropagationPlan, side: Side) -> Direction:
    own: Direction = "into_producer" if side == Side.INTO_PRODUCER else "into_consumer"
    if not plan.absorbed:
        own = "removed"
    elif all(isinstance(move.absorber, AffineSite) for move in plan.absorbed):
        own = "merged"
    return own if site.direction in (None, own) else "both"


def _final_absorbers(site: AffineSite) -> Iterable[Linear]:
    """Linears that took the site's affine, directly or by way of a site that it merged into."""
    work: list[Absorbed] = list(site.absorbers)
    seen: set[AffineSite] = set()
    while work:
        host = work.pop().absorber
        if isinstance(host, Linear):
            yield host
        elif isinstance(host, AffineSite) and host not in seen:
            seen.add(host)
            work.extend(host.absorbers)


def staying(site: AffineSite) -> AffineSite | None:
    """The site, or one that it merged into, whose nodes are still in the graph."""
    work, seen = [site], {site}
    while work:
        item = work.pop()
        if not item.gone:
            return item
        for move in item.absorbers:
            host = move.absorber
            if isinstance(host, AffineSite) and host not in seen:
                seen.add(host)
                work.append(host)
    return None
