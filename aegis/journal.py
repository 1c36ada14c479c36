"""Writes what a run did into its folder (DESIGN §5). Every file is a function of the run's results.

Nothing here holds a time, a host or a process number, so a resumed run writes the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from aegis.candidate import Proposal
from aegis.evaluator import EVOLVE, Evaluator
from aegis.gate.gate import Ruling
from aegis.history import History, Tried
from aegis.record import (
    CandidateRecord,
    CurvePoint,
    Curves,
    Decision,
    Generation,
    Record,
    RoundRecord,
    Scoreboard,
    ScoreboardRound,
)
from aegis.round import Round
from aegis.statistics import bootstrap_mean
from aegis.store import RunStore
from harnessx.harness import HarnessConfig


class Journal:
    """Keeps the run's records and writes them, round by round.

    Args:
        seed: of the bootstrap behind the intervals.
    """

    def __init__(self, store: RunStore, evaluator: Evaluator, history: History, seed: int) -> None:
        self._store, self._evaluator, self._history, self._seed = store, evaluator, history, seed
        self.rounds: list[RoundRecord] = []
        self.generations: list[Generation] = []
        self._curve: list[CurvePoint] = []
        self._board: list[ScoreboardRound] = []
        self._entries: list[str] = []
        self._spent = (0, 0)

    @property
    def candidates(self) -> list[CandidateRecord]:
        """Every candidate of the run, in order of appearance, with its hit rate as far as it is known."""
        return [tried.record for tried in self._history.tried]

    def begin(self, baseline: HarnessConfig) -> None:
        """Record H_0."""
        self.generations.append(Generation(baseline.digest, "", 0, "", (), "H_0"))
        self._store.audit({"event": "begin", "baseline": baseline.digest})
        self.save_best(baseline)
        self._write_index()

    def close_round(self, this: Round) -> None:
        """Write everything of one finished round."""
        folder = f"R{this.number}"
        rulings = this.report.rulings if this.report is not None else ()
        records = [self._candidate(this, ruling) for ruling in rulings]
        records += self._dropped(this)
        shipped = tuple(r.candidate.id for r in rulings if r.decision is Decision.SHIP)
        record = RoundRecord(
            round=this.number,
            incumbent=this.incumbent.digest,
            evolve=this.baseline.interval(self._seed),
            actionability=this.digest.actionability if this.digest else None,
            stop=this.stop,
            candidates=tuple(r.id for r in records),
            shipped=shipped,
            strategy_concern=this.critique.strategy_concern if this.critique else "",
        )
        self.rounds.append(record)
        self._advance(this, rulings)
        self._curve.append(self._point(this))
        self._board.append(ScoreboardRound(this.number, this.incumbent.digest, this.baseline.rates))
        self._write_round(folder, this, records)
        self._entries.append(self._entry(record, records))
        if not self._evaluator.allowance.refused:  # a round the budget cut short goes on under a larger one
            self._store.audit(
                {"event": "round", "round": this.number, "incumbent": this.incumbent.digest, "stop": this.stop,
                 "rulings": [[r.id, r.verdict.value, r.check, r.e_value] for r in records],
                 "successor": this.successor.digest}
            )  # fmt: skip
        self.write()

    def _advance(self, this: Round, rulings: Sequence[Ruling]) -> None:
        parent = this.incumbent.digest
        for ruling in rulings:
            if ruling.decision is Decision.SHIP:
                candidate = ruling.candidate
                digest = candidate.harness.digest
                self.generations.append(
                    Generation(digest, parent, this.number, candidate.id, candidate.manifest.bucket,
                               candidate.manifest.title)
                )  # fmt: skip
                parent = digest
                self._save(f"R{this.number}/applied/{candidate.id}", candidate.harness)
        if parent != this.incumbent.digest:
            self.save_best(this.successor)

    def _candidate(self, this: Round, ruling: Ruling) -> CandidateRecord:
        candidate, manifest = ruling.candidate, ruling.candidate.manifest
        record = CandidateRecord(
            id=candidate.id,
            round=this.number,
            bucket=manifest.bucket,
            title=manifest.title,
            harness=candidate.harness.digest,
            parent=candidate.parent.digest,
            verdict=ruling.decision,
            check=ruling.check,
            reason=ruling.reason,
            e_value=ruling.e_value,
            alpha=ruling.alpha,
            pairs=ruling.pairs,
            diverged=ruling.diverged,
            difference=bootstrap_mean(ruling.differences, self._seed) if ruling.differences else None,
            calls=ruling.calls,
            predicted=manifest.predicted_impact,
            edit=candidate.proposal.edit.to_json(),
        )
        seen = ruling.screening
        net, attempts = (seen.net, seen.attempts) if seen is not None else (None, 0)
        self._history.tried.append(Tried(record, manifest.lever, candidate.harness.digest, net, attempts))
        return record

    def _dropped(self, this: Round) -> list[CandidateRecord]:
        """Records of candidates that never reached the gate."""
        fallen = [
            (c.proposal, c.harness.digest, "critic", why) for c, why in (this.critique.dropped if this.critique else ())
        ]
        fallen += [(r.proposal, "", "evolver", r.reason) for r in this.rejected]
        records = []
        for proposal, digest, check, reason in fallen:
            manifest = proposal.manifest
            record = CandidateRecord(
                id=manifest.candidate_id,
                round=this.number,
                bucket=manifest.bucket,
                title=manifest.title,
                harness=digest,
                parent=this.incumbent.digest,
                verdict=Decision.REJECT,
                check=check,
                reason=reason,
                predicted=manifest.predicted_impact,
                edit=proposal.edit.to_json(),
            )
            self._history.tried.append(Tried(record, manifest.lever, digest))
            records.append(record)
        return records

    def _point(self, this: Round) -> CurvePoint:
        meter = self._evaluator.meter
        tokens, rollouts = meter.tokens - self._spent[0], meter.rollouts - self._spent[1]
        self._spent = (meter.tokens, meter.rollouts)
        evolve = this.baseline.interval(self._seed)
        return CurvePoint(this.number, this.incumbent.digest, evolve, None, tokens, rollouts)

    def save_best(self, harness: HarnessConfig) -> None:
        """Put the current harness into ``best/``, whole; assets of an earlier one do not stay."""
        self.best = harness
        self._save("best", harness)
        best = self._store.path / "best"
        for file in (best / "assets").rglob("*"):
            if file.is_file() and file.relative_to(best).as_posix() not in harness.assets:
                file.unlink()

    def _save(self, folder: str, harness: HarnessConfig) -> None:
        for path, text in harness.assets.items():
            self._store.write_text(f"{folder}/{path}", text)
        self._store.write_text(f"{folder}/harness.yaml", harness.to_yaml())

    def write(self) -> None:
        """Write the run-level files."""
        clusters = {task.id: task.cluster for task in self._evaluator.tasks[EVOLVE]}
        self._json("curves.json", Curves(tuple(self._curve)))
        self._json("scoreboard.json", Scoreboard(clusters, tuple(self._board)))
        self._store.write_text("data/candidates.jsonl", _lines(self.candidates))
        self._store.write_text("data/rounds.jsonl", _lines(self.rounds))
        self._store.write_text("data/generations.json", _dump([g.to_json() for g in self.generations]))
        outcomes = [
            {"id": c.id, "round": c.round, "bucket": list(c.bucket), "hit_rate": c.hit_rate}
            for c in self.candidates
            if c.verdict is Decision.SHIP
        ]
        self._store.write_text("data/ship_outcomes.json", _dump(outcomes))
        rejected = [c for c in self.candidates if c.verdict is Decision.REJECT]
        self._store.write_text("data/rejected_candidates.jsonl", _lines(rejected))
        history = [
            {"task": task, "round": board.round, "rate": rate}
            for board in self._board
            for task, rate in board.rates.items()
        ]
        self._store.write_text("data/task_history.jsonl", "".join(json.dumps(h) + "\n" for h in history))
        self._store.write_text("journal.md", "# Journal\n\n" + "\n".join(self._entries))
        self._write_index()

    def _write_round(self, folder: str, this: Round, records: Sequence[CandidateRecord]) -> None:
        store = self._store
        if this.digest is not None:
            store.write_text(f"{folder}/digests/digest.md", this.digest.to_markdown())
        if this.landscape is not None:
            store.write_text(f"{folder}/landscape.md", this.landscape.to_markdown())
        store.write_text(f"{folder}/trajectories/{EVOLVE}.jsonl", "".join(t.to_jsonl() for t in this.trajectories))
        revised = {c.id: c for c, _ in this.critique.revised} if this.critique is not None else {}
        for candidate in this.candidates:
            base = f"{folder}/candidates/{candidate.id}"
            if candidate.id in revised:
                self._write_candidate(f"{base}/before_revision", candidate.proposal)
            final = revised.get(candidate.id, candidate)
            self._write_candidate(base, final.proposal)
            for path, text in final.new_code.items():
                store.write_text(f"{base}/{path}", text)
        for rejected in this.rejected:
            self._write_candidate(f"{folder}/candidates/{rejected.proposal.manifest.candidate_id}", rejected.proposal)
        for record in records:
            store.write_text(f"{folder}/verdicts/{record.id}.json", _dump(record.to_json()))
        regressions = self._history.regressions()
        lines = "".join(f"* {task}\n" for task in regressions) or "none\n"
        store.write_text(f"{folder}/regressions.md", f"# Regressions before round {this.number}\n\n{lines}")
        store.write_text(f"{folder}/decision.md", self._decision(this, records))

    def _write_candidate(self, folder: str, proposal: Proposal) -> None:
        self._store.write_text(f"{folder}/manifest.md", proposal.manifest.to_markdown())
        self._store.write_text(f"{folder}/manifest.json", _dump(proposal.manifest.to_json()))
        self._store.write_text(f"{folder}/edit.json", _dump(proposal.edit.to_json()))
        if proposal.smoke:
            self._store.write_text(f"{folder}/smoke.json", _dump(dict(proposal.smoke)))

    def _decision(self, this: Round, records: Sequence[CandidateRecord]) -> str:
        lines = [f"# Decision of round {this.number}", ""]
        if this.stop:
            lines += [f"No-op: {this.stop}.", ""]
        if this.critique is not None:
            lines += ["## Critic", "", this.critique.to_markdown()]
        lines += ["## Gate", ""]
        lines += [f"* {_verdict(r)}" for r in records] or ["* nothing to decide"]
        lines += ["", f"The next incumbent is `{this.successor.digest}`."]
        return "\n".join(lines) + "\n"

    def _entry(self, record: RoundRecord, records: Sequence[CandidateRecord]) -> str:
        score = record.evolve
        rate = f"{100 * score.mean:.1f} % [{100 * score.lo:.1f}, {100 * score.hi:.1f}]" if score else "not measured"
        lines = [f"## Round {record.round}", "", f"incumbent `{record.incumbent[:12]}`, evolve {rate}", ""]
        if record.stop:
            lines += [f"No-op: {record.stop}.", ""]
        lines += [f"* {_verdict(r)}" for r in records]
        if record.strategy_concern:
            lines += ["", f"Concern: {record.strategy_concern}."]
        return "\n".join(lines) + "\n"

    def close_run(self) -> None:
        """The index of a run whose summary is there, and whose report is next."""
        self._write_index("[report](report.html)", "[summary](summary.json)")

    def _write_index(self, *further: str) -> None:
        """``further`` are links to what only a finished run has."""
        journal = ["[journal](journal.md)"] if self._entries else []
        lines = ["# Run", "", "| round | incumbent | candidates | shipped |", "|---|---|---|---|"]
        lines += [
            f"| [R{r.round}](R{r.round}/decision.md) | `{r.incumbent[:12]}` | {len(r.candidates)} | "
            f"{', '.join(r.shipped) or '—'} |"
            for r in self.rounds
        ]
        lines += ["", " · ".join([*journal, *further, "[best](best/)"])]
        self._store.write_text("INDEX.md", "\n".join(lines) + "\n")

    def _json(self, path: str, record: Record) -> None:
        self._store.write_text(path, _dump(record.to_json()))


def _verdict(record: CandidateRecord) -> str:
    figures = ""
    if record.e_value is not None and record.alpha is not None:
        figures = f" (E = {record.e_value:.4g} of {1 / record.alpha:.4g}; {record.diverged} of {record.pairs} diverged)"
    buckets = "+".join(record.bucket)
    return f"{record.id} [{buckets}] {record.title}: **{record.verdict}** by {record.check}: {record.reason}{figures}"


def _dump(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _lines(records: Sequence[Record]) -> str:
    return "".join(json.dumps(r.to_json(), sort_keys=True, ensure_ascii=False) + "\n" for r in records)
