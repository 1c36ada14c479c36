"""How the journal words what happened, in a line of Markdown each."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.gate.canary import CanaryReport
from aegis.gate.config import GateConfig
from aegis.record import CandidateRecord, DriftRecord, RouteRecord
from aegis.record_calibration import Calibration
from aegis.record_session import Duty, Ending, SessionRecord
from aegis.views import notation


def verdict(record: CandidateRecord) -> str:
    """A candidate and what became of it."""
    buckets = "+".join(record.bucket)
    verdict = f"{record.verdict}, flagged as cheating" if record.flagged else record.verdict
    said = f"{record.id} [{buckets}] {' '.join(record.title.split())}: **{verdict}** by {record.check}: {record.reason}"
    asked = f"; {record.approval}" if record.approval and record.approval not in record.reason else ""
    return said + asked + _figures(record)


def route(record: RouteRecord) -> str:
    """A change of routes and what became of it."""
    where = ", ".join(f"{cluster} to {record.routes[cluster][:12]}" for cluster in record.clusters)
    return f"routes {where}: **{record.verdict}**: {record.reason}{_figures(record)}"


def _figures(record: CandidateRecord | RouteRecord) -> str:
    if record.e_value is None or record.alpha is None:
        return ""
    arms = (("incumbent", record.calls.incumbent), ("candidate", record.calls.candidate))
    calls = ", ".join(f"{name} {arm.made} made and {arm.replayed} replayed" for name, arm in arms)
    return (
        f" (E = {record.e_value:.4g} of {1 / record.alpha:.4g}; {record.diverged} of {record.pairs} diverged; "
        f"model calls: {calls})"
    )


def canary(seen: CanaryReport) -> str:
    """What two copies of the incumbent said of the provider."""
    said = "**alarm, open evidence is discarded**" if seen.alarmed else "no alarm"
    return f"{said}: {seen.reason}."


def watched(drift: DriftRecord) -> str:
    """What drift was seen, and what was done."""
    action = drift.action.replace("_", " ")
    drawn = f"{drift.pairs} pairs to watch" + (f" and {drift.check_pairs} to check" if drift.check_pairs else "")
    held = f"`{drift.current[:12]}` against the best confirmed `{drift.best[:12]}`"
    return f"**{action}**: {held}: {drift.reason} ({drawn})."


def prediction(record: CandidateRecord) -> str:
    """A forecast and how it turned out."""
    assert record.hit_rate is not None
    assert record.forecast is not None
    assert record.brier is not None
    return (
        f"{record.id} predicted flips, held to be {100 * record.forecast:.0f} % likely; "
        f"{100 * record.hit_rate:.0f} % came true{notation.by_chance(record.chance)} (Brier score {record.brier:.3f})"
    )


def promise(gate: GateConfig, guarantee: str, unwatched: Sequence[str] = ()) -> str:
    """What the run may draw and what it then guarantees; said before its first rollout.

    ``unwatched`` are the clusters that no validation task is of: what an edit does there nobody sees.
    """
    if gate.rule == "seesaw":
        return "The gate's rule is the paper's: nothing is confirmed, and nothing is guaranteed."
    blind = (
        f" Not confirmed and not watched for harm, for want of validation tasks: {', '.join(unwatched)}; "
        "set benchmark.splits.validation higher."
        if unwatched
        else ""
    )
    return (
        f"At most {gate.cap} pairs for a candidate each time it is proposed and {gate.run_cap} in the run, "
        f"{gate.drift_cap} more to watch for drift. Guaranteed: {guarantee}.{blind}"
    )


def calibration(found: Calibration) -> str:
    """What the nulls came to."""
    seen = ", ".join(
        f"{'none' if gain is None else f'+{100 * gain:.1f}'} on {100 * float(scope):.0f} %"
        for scope, gain in found.detectable.items()
    )
    inert = found.inert
    silent = (
        f"An edit that says nothing ended differently in {inert.discordant} of {inert.pairs} pairs, of which "
        f"{inert.diverged} sent another request (E: {inert.e_value:.3g}). "
        if inert is not None
        else ""
    )
    return (
        f"Two copies of H_0 ended differently in {found.discordant} of {found.pairs} pairs "
        f"(E that they differ: {found.e_value:.3g}, alarm at {found.alarm:g}). {silent}An edit without effect ships in "
        f"{100 * found.null_ship_rate:.2g} % of decisions; stated: at most {100 * found.alpha:.2g} %. "
        f"Smallest gain in points that ships with power .8, by share of attempts acted on: {seen}."
    )


def sessions(records: Sequence[SessionRecord]) -> list[str]:
    """What the meta-agent was asked in a round: a line of totals, and one for each answer that was not had at once."""
    counts = {duty: sum(r.duty is duty for r in records) for duty in Duty}
    asked = ", ".join(f"{duty} {count}" for duty, count in counts.items() if count)
    known = [r.usd for r in records if r.usd is not None]
    price = f"{sum(known):.4f} USD" if len(known) == len(records) else "at a price that is not known"
    lines = [f"Meta-agent: {asked}; {sum(r.tokens for r in records):,} tokens, {price}."]
    for record in records:
        if record.ending is not Ending.ANSWERED:
            problem = " ".join(record.problem.split())[:300]
            lines.append(f"* {record.duty} {record.name}: {record.ending}: {problem}")
    return ["\n".join([lines[0], "", *lines[1:]]).rstrip()]
