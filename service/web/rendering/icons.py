"""Inline icons of 24 x 24, drawn with strokes in the colour of the text around them."""

from __future__ import annotations

from markupsafe import Markup

_PATHS = {
    "check": '<circle cx="12" cy="12" r="10"/><path d="M7 12.5l3.5 3.5L17 8.5"/>',
    "cross": '<circle cx="12" cy="12" r="10"/><path d="M8.2 8.2l7.6 7.6M15.8 8.2l-7.6 7.6"/>',
    "question": '<path d="M12 2.8L22 20.5H2z"/><path d="M12 9.5v5M12 17.3v.4"/>',
    "dots": '<circle cx="12" cy="12" r="10"/><path d="M7.5 12h.01M12 12h.01M16.5 12h.01"/>',
    "dot": '<circle cx="12" cy="12" r="4"/>',
    "stop": '<circle cx="12" cy="12" r="10"/><path d="M8.5 8.5h7v7h-7z"/>',
    "upload": '<path d="M12 16V4M7 8.5L12 3.5l5 5M4 16v3.5h16V16"/>',
    "download": '<path d="M12 4v12M7 11.5l5 5 5-5M4 20.5h16"/>',
    "lock": '<path d="M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 017 0v3"/>',
    "theme": '<circle cx="12" cy="12" r="9"/><path fill="currentColor" d="M12 3a9 9 0 010 18z"/>',
    "logo": '<path fill="currentColor" d="M3 4h8l4 4v12H7l-4-4z"/><path d="M15 8h6v12h-6"/>',
}


def icon(name: str, size: int = 20) -> Markup:
    """The icon as markup, hidden from screen readers: the word stands beside it."""
    return Markup(
        '<svg viewBox="0 0 24 24" width="{size}" height="{size}" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{paths}</svg>'
    ).format(size=size, paths=Markup(_PATHS[name]))
