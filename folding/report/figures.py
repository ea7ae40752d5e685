"""Write bytes, counts and seconds for people: one form for the command, the reports and the pages."""

from __future__ import annotations

_BYTES = ("B", "kB", "MB", "GB", "TB")


def count(value: int) -> str:
    """Return a whole number with thousands apart.

    >>> count(25636712)
    '25,636,712'
    """
    return f"{value:,}"


def size(value: float) -> str:
    """Return a number of bytes in decimal units (1 kB = 1,000 B).

    >>> size(999), size(1000), size(102_550_000), size(2.5e12)
    ('999 B', '1.0 kB', '102.5 MB', '2.5 TB')
    """
    amount = float(value)
    for unit in _BYTES[:-1]:
        # What rounds up to 1000.0 of a unit is 1.0 of the next.
        if round(abs(amount), 1) < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} {_BYTES[-1]}"


def seconds(value: float) -> str:
    """Return a duration.

    >>> seconds(4.2e-8), seconds(0.00034), seconds(0.34), seconds(59.96), seconds(3725)
    ('42 ns', '340 µs', '340 ms', '60.0 s', '1 h 2 min')
    """
    if value < 1:
        for factor, unit in ((1e3, "ms"), (1e6, "µs")):
            if value * factor >= 1:
                return f"{value * factor:.3g} {unit}"
        return f"{value * 1e9:.3g} ns"
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
