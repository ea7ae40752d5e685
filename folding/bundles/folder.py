"""A plain folder: model, report, model card, and the attestation where there is one."""

from __future__ import annotations

from folding.bundles.base import Contents, Member

KIND = "folder"
TITLE = "Folder with report, model card and attestation"


def members(contents: Contents) -> list[Member]:
    """Return model, report, card and attestation."""
    name, attestation = contents.name, contents.attestation()
    found = [
        *(part.at(f"{name}/{part.path}") for part in contents.model),
        contents.report.at(f"{name}/report.json"),
        Member.of(f"{name}/model_card.md", contents.card()),
    ]
    if attestation is not None:
        found.append(Member.of(f"{name}/attestation.json", attestation))
    return found
