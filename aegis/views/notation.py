"""How numbers are written for people: the same in the terminal, the report and the comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aegis.statistics import Interval

UNSCORED = "–"


def percent(interval: Interval | None) -> str:
    """A rate: ``71.2 %``."""
    return UNSCORED if interval is None else f"{100 * interval.mean:.1f} %"


def bounds(interval: Interval | None) -> str:
    """The 95 % bounds of a rate: ``62.0 … 80.1``."""
    return "" if interval is None else f"{100 * interval.lo:.1f} … {100 * interval.hi:.1f}"


def points(interval: Interval | None) -> str:
    """A difference of rates in percentage points, signed: ``+18.7``."""
    return UNSCORED if interval is None else _signed(interval.mean)


def point_bounds(interval: Interval | None) -> str:
    """The 95 % bounds of a difference: ``+9.1 … +28.4``."""
    return "" if interval is None else f"{_signed(interval.lo)} … {_signed(interval.hi)}"


def count(number: float) -> str:
    """A whole number, thousands apart: ``1 234 567`` (thin spaces)."""
    return f"{number:,.0f}".replace(",", "\u2009")


def significant(number: float | None) -> str:
    """Three significant digits, powers of ten beyond a million: e-values span many orders."""
    if number is None:
        return UNSCORED
    if 1000 <= number < 1_000_000:
        return count(round(number, 2 - math.floor(math.log10(number))))
    return f"{number:.3g}"


def dollars(amount: float | None) -> str:
    """Money, or that no price is known."""
    return "unknown" if amount is None else f"${amount:.2f}"


def price(tokens: float | None, dollars: float | None) -> str:
    """What one solved task costs: ``12 345 tokens``, and the money where it is known and any."""
    if tokens is None:
        return UNSCORED
    return f"{count(tokens)} tokens" + (f", ${dollars:.3g}" if dollars else "")


def duration(seconds: float) -> str:
    """Wall time: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def share(part: int, whole: int) -> str:
    """A part of a whole, in whole percent."""
    return UNSCORED if whole == 0 else f"{100 * part / whole:.0f} %"


def rate(interval: Interval | None) -> str:
    """A rate with its bounds, for a line: ``71.2 % (62.0 … 80.1)``."""
    return UNSCORED if interval is None else f"{percent(interval)} ({bounds(interval)})"


def gain(interval: Interval | None) -> str:
    """A difference with its bounds, for a line: ``+18.7 (+9.1 … +28.4)``."""
    return UNSCORED if interval is None else f"{points(interval)} ({point_bounds(interval)})"


def _signed(fraction: float) -> str:
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def served(servers: Sequence[str]) -> str:
    """Whose tools rollouts had besides those of their world, in a sentence."""
    return f"Rollouts had the tools of {', '.join(servers)} (servers); what these said is replayed as set there."


def reachable(hosts: Sequence[str]) -> str:
    """Which hosts were open to evolved code, in a sentence."""
    return f"Evolved code was allowed to ask {', '.join(hosts)} (sandbox.allow_hosts); what they said is replayed."


def by_chance(chance: float | None) -> str:
    """Beside a hit rate, what it would be without any change; '' where that is not known."""
    return "" if chance is None else f", {100 * chance:.0f} % would by chance"
