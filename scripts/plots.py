"""Draws the tables under ``results/`` as small PNG files beside them.

    pip install -e '.[plots]' && python scripts/plots.py              # all of them
    python scripts/plots.py drift power --results results

Every plot is a function of its JSON files alone. Rates and differences are shown in percent, bars and whiskers are
95 % intervals where the table has them. The colours are those of Okabe and Ito, which colour-blind readers tell
apart; nothing is told by colour alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
MARKS = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", ":"))
Table = Mapping[str, Any]


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("plots", nargs="*", metavar="PLOT", help=f"{', '.join(PLOTS)}; none named: all of them")
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    for name in set(arguments.plots) - set(PLOTS):
        parser.error(f"no plot is called {name!r}; valid: {', '.join(PLOTS)}")
    try:
        import matplotlib
    except ImportError:
        sys.exit("error: plots need matplotlib; install it with: pip install -e '.[plots]'")
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    for name in arguments.plots or PLOTS:
        draw, tables = PLOTS[name]
        print(_save(name, draw, [_read(arguments.results / table) for table in tables], arguments.results), flush=True)


def _read(path: Path) -> Table:
    try:
        table: Table = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"error: {path} cannot be read ({error}); the scripts that results/README.md names write it")
    return table


def _save(name: str, draw: Callable[..., Figure], tables: Sequence[Table], folder: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, path = draw(*tables), folder / f"{name}.png"
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
    return path


def null(table: Table) -> Figure:
    """How many runs ship anything without a true gain, by acceptance rule."""
    figure, axes = _figure(7.0, 2.9)
    rows = table["rows"][::-1]
    _bars(axes, [f"{row['rule']} ({row['runs']:,} runs)" for row in rows], [row["shipped_false"] for row in rows])
    _stated(axes, 5, "stated: at most 5 %")
    axes.set_xlim(0, 108)
    axes.set_xlabel("runs of 15 rounds that ship something without a true gain, %")
    return figure


def power(table: Table) -> Figure:
    """What the candidate pays, against tests of fixed size of equal power; and how often it ships by then."""
    import matplotlib.pyplot as plt

    figure, (price, chance) = plt.subplots(1, 2, figsize=(8.6, 4.4), width_ratios=(1.25, 1), layout="constrained")
    rows = table["rows"][::-1]
    names = [f"+{100 * r['gain']:.0f} on {100 * r['scope']:.0f} %{', losses ⅓' if r['losses'] else ''}" for r in rows]
    places = range(len(rows))
    for key, label, colour, mark in (
        ("uncoupled", "fixed size, independent draws", VERMILION, "D"),
        ("coupled", "fixed size, same draws", ORANGE, "s"),
        ("candidate_mean", "this test, mean and 95th percentile", BLUE, "o"),
    ):
        price.plot([row[key] for row in rows], places, mark, color=colour, label=label, markersize=5)
    for place, row in enumerate(rows):
        price.plot([row["candidate_mean"], row["candidate_p95"]], [place, place], color=BLUE, linewidth=1.2)
        price.plot(row["candidate_p95"], place, "|", color=BLUE, markersize=7)
    price.set_xscale("log")
    price.set_yticks(list(places), names)
    price.set_xlabel("rollouts of the candidate")
    price.set_ylabel("gain in points, share of tasks touched")
    price.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0.0, 0.13))
    for index, (limit, (colour, mark, _)) in enumerate(zip((200, 400, 800), MARKS, strict=True)):
        chance.plot(
            [100 * r["power"][index] for r in rows], places, mark, color=colour, label=f"{limit} rollouts", markersize=5
        )
    chance.set_yticks(list(places), [])
    chance.set_xlim(-3, 103)
    chance.set_xlabel("power within so many rollouts, %")
    chance.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 0.13))
    for axes in (price, chance):
        axes.grid(alpha=0.3)
    return figure


def drift(table: Table) -> Figure:
    """When small losses are noticed, by pairs a round and the share of tasks that an edit touches."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 4, figsize=(9.6, 3.0), sharex=True, layout="constrained")
    lossy = [row for row in table["rows"] if row["loss"]]
    calm = [row for row in table["rows"] if not row["loss"]]
    shown = (
        ("alarm by round 5", "by_5", lossy), ("alarm by round 8", "by_8", lossy),
        ("alarm before 5 points\nare lost", "before_5_points", lossy), ("false alarm in 15 rounds", "ever", calm),
    )  # fmt: skip
    scopes = sorted({row["scope"] for row in lossy})
    for axes, (title, key, rows) in zip(panels, shown, strict=True):
        for place, (scope, (colour, mark, line)) in enumerate(zip(scopes, MARKS, strict=True)):
            of_scope = sorted((row for row in rows if row["scope"] == scope), key=lambda row: row["pairs"])
            nudged = [row["pairs"] * (1 + 0.05 * (place - 1)) for row in of_scope]
            found = [row[key] for row in of_scope]
            axes.errorbar(
                nudged, [100 * one["mean"] for one in found], yerr=_whiskers(found), color=colour, marker=mark,
                linestyle=line, capsize=2, markersize=4, label=f"{100 * scope:.0f} % of tasks",
            )  # fmt: skip
        axes.set_title(title, fontsize=9)
        axes.set_xscale("log")
        axes.set_xticks([206, 412, 824], ["206", "412", "824"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.axhline(5 if key == "ever" else 90, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_ylim((0, 12) if key == "ever" else (0, 104))
    panels[0].set_ylabel(f"of {table['runs']} runs, %")
    panels[1].legend(fontsize=8, loc="lower right")
    figure.supxlabel("fresh pairs a round (dashed: what is asked for)", fontsize=9)
    return figure


def conflict(simulated: Table, household: Table) -> Figure:
    """Peak and end of every strategy by true rates, on the testbed and on household; and what each paid."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(8.6, 4.6), width_ratios=(2, 1), layout="constrained")
    for (rates, paid), table, title in zip(panels, (simulated, household), ("testbed", "household"), strict=True):
        rows = table["rows"][::-1]
        for key, colour, mark, lift in (
            ("start", GREY, "|", 0),
            ("peak", ORANGE, "^", 0.15),
            ("final", BLUE, "o", -0.15),
        ):
            found = [row[key] for row in rows]
            rates.errorbar(
                [100 * one["mean"] for one in found], [place + lift for place in range(len(rows))],
                xerr=None if key == "start" else _whiskers(found), fmt=mark, color=colour, capsize=2,
                markersize=14 if key == "start" else 5, label={"final": "end"}.get(key, key),
            )  # fmt: skip
        rates.set_yticks(range(len(rows)), [row["rule"] for row in rows])
        rates.set_title(f"{title}, {_counted(table)}", fontsize=9)
        paid.barh(range(len(rows)), [row["rollouts"] / 1000 for row in rows], color=GREY, height=0.5)
        paid.set_yticks(range(len(rows)), [])
        for axes in (rates, paid):
            axes.set_ylim(-0.5, len(rows) - 0.5)
            axes.grid(alpha=0.3, axis="x")
            axes.set_axisbelow(True)
    panels[1][0].set_xlabel("true success rate, %")
    panels[1][1].set_xlabel("thousand rollouts a run")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=8, frameon=False
    )
    return figure


def replay(table: Table) -> Figure:
    """Model calls of the candidates' arms that prefix replay saved, by bucket and by where an edit first acts."""
    figure, axes = _figure(7.0, 2.6)
    later = sorted(table["later_request"].items(), key=lambda item: (item[0] != "all", item[0]))
    rows = [("from the first request: all", table["first_request"]["all"])]
    rows += [(f"after the first request: {name.replace('+', ' + ')}", row) for name, row in later]
    for place, (_, row) in enumerate(rows):
        share = 100 * row["replayed_share"]
        axes.barh(place, share, color=BLUE, height=0.6)
        axes.text(share + 1, place, f"{share:.0f} % ({row['candidates']} candidates)", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.set_ylabel("where an edit first acts: bucket", fontsize=8)
    axes.set_xlim(0, 118)
    axes.axvline(60, color=VERMILION, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate("asked for after the first: 60 %", (60, 0.45), xytext=(-4, 0), textcoords="offset points",
                  color=VERMILION, fontsize=8, ha="right")  # fmt: skip
    axes.set_xlabel("model calls of the candidates that were replayed, %")
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    return figure, axes


def _bars(axes: Axes, names: Sequence[str], found: Sequence[Table]) -> None:
    axes.barh(names, [100 * one["mean"] for one in found], xerr=_whiskers(found), color=BLUE, height=0.6, capsize=3)


def _whiskers(found: Sequence[Table]) -> list[list[float]]:
    """How far an interval reaches below and above its mean, in percent."""
    below, above = ([abs(100 * (one["mean"] - one[end])) for one in found] for end in ("lo", "hi"))
    return [below, above]


def _stated(axes: Axes, value: float, text: str) -> None:
    axes.axvline(value, color=VERMILION, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(text, (value, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -2), textcoords="offset points",
                  color=VERMILION, fontsize=8, va="top")  # fmt: skip


def _counted(table: Table) -> str:
    return f"{table['runs']} populations" if "study" in table else f"{len(table['seeds'])} seeds"


PLOTS: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "null": (null, ("testbed_null.json",)),
    "power": (power, ("testbed_power.json",)),
    "drift": (drift, ("testbed_drift.json",)),
    "conflict": (conflict, ("testbed_conflict.json", "conflict.json")),
    "replay": (replay, ("replay.json",)),
}

if __name__ == "__main__":
    main()
