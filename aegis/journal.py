"""Writes what a run did into its folder (DESIGN §5). Every file is a function of the run's results.

Nothing here holds a time, a host or a process number, so a resumed run writes the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from aegis import phrases
from aegis.accounts import budget_points, generation_point
from aegis.candidate import Proposal
from aegis.evaluator import EVOLVE, Evaluation, Evaluator
from aegis.gate.routes import RouteRuling
from aegis.gate.ruling import Ruling
from aegis.history import History, Tried
from aegis.record import (
    Bucket,
    CandidateRecord,
    CurvePoint,
    Curves,
    Decision,
    DriftRecord,
    FrontierPoint,
    Generation,
    Milestone,
    PredictionScore,
    Record,
    RoundRecord,
    RouteRecord,
    Scoreboard,
    ScoreboardRound,
)
from aegis.record_calibration import Calibration
from aegis.record_session import SessionRecord
from aegis.round import Round
from aegis.routing import System, bundle
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
        self.drift: list[DriftRecord] = []
        self._curve: list[CurvePoint] = []
        self._board: list[ScoreboardRound] = []
        self._frontier: dict[str, FrontierPoint] = {}
        self._entries: list[str] = []
        self._routes: list[RouteRecord] = []
        self._spent = (0, 0)
        self.sessions: Sequence[SessionRecord] = ()
        """Of a meta-agent that has any, as they come."""
        self._told = 0

    @property
    def candidates(self) -> list[CandidateRecord]:
        """Every candidate of the run, in order of appearance, with its hit rate as far as it is known."""
        return [tried.record for tried in self._history.tried]

    @property
    def predictions(self) -> dict[Bucket, PredictionScore]:
        """How the predictions of each bucket came out."""
        return self._history.prediction_scores()

    def begin(self, baseline: HarnessConfig, promise: str = "") -> None:
        """Record H_0, and what the run may draw and promises, before anything is run."""
        self.generations.append(Generation(baseline.digest, "", 0, "", (), "H_0"))
        self._store.audit({"event": "begin", "baseline": baseline.digest})
        self.save_best(baseline)
        if promise:
            self._entries.append(f"{promise}\n")
            self._write_journal()
        self._write_index()

    def calibrated(self, found: Calibration) -> None:
        """Write what the gate can see, before it is asked."""
        self._json("data/calibration.json", found)
        self._entries.append(f"## Calibration\n\n{phrases.calibration(found)}\n")
        self._store.audit({"event": "calibrated", "noise": found.noise, "e_value": found.e_value})

    def close_round(self, this: Round) -> None:
        """Write everything of one finished round."""
        folder = f"R{this.number}"
        rulings = this.report.rulings if this.report is not None else ()
        records = [self._candidate(this, ruling) for ruling in rulings]
        records += self._dropped(this)
        shipped = tuple(r.candidate.id for r in rulings if r.decision is Decision.SHIP)
        record = RoundRecord(
            round=this.number,
            incumbent=this.deployed.digest,
            evolve=this.baseline.interval(self._seed),
            actionability=this.digest.actionability if this.digest else None,
            stop=this.stop,
            candidates=tuple(r.id for r in records),
            shipped=shipped,
            strategy_concern=this.critique.strategy_concern if this.critique else "",
        )
        self.rounds.append(record)
        drift = self._drift(this)
        self._place(this)
        self._advance(this, rulings)
        self._curve.append(self._point(this))
        self._board.append(ScoreboardRound(this.number, this.deployed.digest, this.baseline.rates))
        self._write_round(folder, this, records, drift)
        routes = [route_record(this.number, ruling, self._seed) for ruling in this.routes]
        self._routes += routes
        self._entries.append(self._entry(this, record, records, routes, drift))
        if not self._evaluator.allowance.refused:  # a round the budget cut short goes on under a larger one
            self._store.audit(self._audited(this, records, routes, drift))
        self.write()

    def _place(self, this: Round) -> None:
        """The incumbent as measured, and the candidates whose gain was bought, on the accuracy-cost frontier."""
        incumbent = self._measured(this.number, this.baseline)
        for point in budget_points(this, incumbent) if incumbent is not None else ():
            self._frontier.setdefault(point.harness, point)

    def _measured(self, number: int, evaluation: Evaluation) -> FrontierPoint | None:
        """The point of a harness; the first measurement of it stays, unless it was only screened."""
        known = self._frontier.get(evaluation.harness)
        if known is not None and known.kind is Milestone.GENERATION:
            return known
        names = {g.digest: g.candidate or g.title for g in reversed(self.generations)}
        point = generation_point(names.get(evaluation.harness, evaluation.harness[:8]), number, evaluation)
        if point is not None:
            self._frontier[evaluation.harness] = point
        return point

    def close_run(self, measured: Sequence[Evaluation]) -> None:
        """Add what the final evaluation measured on evolve."""
        for evaluation in measured:
            self._measured(len(self.rounds), evaluation)
        self.write()

    @staticmethod
    def _audited(
        this: Round, records: Sequence[CandidateRecord], routes: Sequence[RouteRecord], drift: DriftRecord | None
    ) -> dict[str, object]:
        """What the audit says of a round."""
        said: dict[str, object] = {}
        if routes:
            said["routes"] = [[*r.clusters, r.verdict.value, r.e_value] for r in routes]
        if drift is not None:
            said["drift"] = [drift.action.value, drift.best, drift.e_value, drift.reason]
        if this.canary is not None:
            said["canary"] = [this.canary.pairs, this.canary.missing, this.canary.e_value, this.canary.alarmed]
        return {
            "event": "round", "round": this.number, "incumbent": this.deployed.digest, "stop": this.stop,
            "rulings": [[r.id, r.verdict.value, r.check, r.e_value] for r in records],
            "successor": this.deploys.digest, **said,
        }  # fmt: skip

    def _advance(self, this: Round, rulings: Sequence[Ruling]) -> None:
        for ruling in rulings:
            if ruling.decision is Decision.SHIP:
                candidate = ruling.candidate
                self.generations.append(
                    Generation(candidate.harness.digest, candidate.parent.digest, this.number, candidate.id,
                               candidate.manifest.bucket, candidate.manifest.title)
                )  # fmt: skip
                self._save(f"R{this.number}/applied/{candidate.id}", candidate.harness)
        if this.deploys != this.deployed:
            self.save_best(this.deploys)

    def _drift(self, this: Round) -> DriftRecord | None:
        seen = this.drift
        if seen is None:
            return None
        self.drift.append(
            DriftRecord(
                round=this.number,
                action=seen.action,
                reason=seen.reason,
                current=seen.current.digest,
                best=seen.best.digest,
                harness=seen.harness.digest,
                pairs=seen.pairs,
                check_pairs=seen.check_pairs,
                e_value=seen.e_value,
                alarmed=seen.alarmed,
                difference=bootstrap_mean(seen.differences, self._seed) if seen.differences else None,
            )
        )
        return self.drift[-1]

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
            flagged=ruling.flagged,
            costs=ruling.screening.costs if ruling.screening is not None else None,
            wider=ruling.wider,
            approval=ruling.approval,
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
        return CurvePoint(this.number, this.deployed.digest, evolve, None, tokens, rollouts)

    def save_best(self, system: System) -> None:
        """Put what is deployed into ``best/``, whole; files of an earlier one do not stay."""
        self.best = system
        self._save("best", system)
        best, files = self._store.path / "best", bundle(system)
        for file in best.rglob("*"):
            if file.is_file() and file.relative_to(best).as_posix() not in files:
                file.unlink()

    def _save(self, folder: str, system: System) -> None:
        for path, text in bundle(system).items():
            self._store.write_text(f"{folder}/{path}", text)

    def write(self) -> None:
        """Write the run-level files."""
        clusters = {task.id: task.cluster for task in self._evaluator.tasks[EVOLVE]}
        self._json("curves.json", Curves(tuple(self._curve)))
        self._json("scoreboard.json", Scoreboard(clusters, tuple(self._board)))
        self._store.write_text("data/candidates.jsonl", _lines(self.candidates))
        self._store.write_text("data/rounds.jsonl", _lines(self.rounds))
        if self.drift:
            self._store.write_text("data/drift.jsonl", _lines(self.drift))
        self._store.write_text("data/generations.json", _dump([g.to_json() for g in self.generations]))
        self._store.write_text("data/frontier.json", _dump([p.to_json() for p in self._frontier.values()]))
        outcomes = [
            {
                "id": c.id,
                "round": c.round,
                "bucket": list(c.bucket),
                "hit_rate": c.hit_rate,
                "forecast": c.forecast,
                "brier": c.brier,
                "chance": c.chance,
            }
            for c in self.candidates
            if c.verdict is Decision.SHIP
        ]
        self._store.write_text("data/ship_outcomes.json", _dump(outcomes))
        if self._routes:
            self._store.write_text("data/routes.jsonl", _lines(self._routes))
        if self.sessions:
            self._store.write_text("data/sessions.jsonl", _lines(self.sessions))
        rejected = [c for c in self.candidates if c.verdict is Decision.REJECT]
        self._store.write_text("data/rejected_candidates.jsonl", _lines(rejected))
        history = [
            {"task": task, "round": board.round, "rate": rate}
            for board in self._board
            for task, rate in board.rates.items()
        ]
        self._store.write_text("data/task_history.jsonl", "".join(json.dumps(h) + "\n" for h in history))
        self._write_journal()
        self._write_index()

    def _write_journal(self) -> None:
        self._store.write_text("journal.md", "# Journal\n\n" + "\n".join(self._entries))

    def _write_round(
        self, folder: str, this: Round, records: Sequence[CandidateRecord], drift: DriftRecord | None
    ) -> None:
        store = self._store
        if this.digest is not None:
            store.write_text(f"{folder}/digests/digest.md", this.digest.to_markdown())
        if this.landscape is not None:
            store.write_text(f"{folder}/landscape.md", this.landscape.to_markdown())
        store.write_text(f"{folder}/trajectories/{EVOLVE}.jsonl", "".join(t.to_jsonl() for t in this.trajectories))
        revised = {c.id: c for c, _ in this.critique.revised} if this.critique is not None else {}
        proposed = {candidate.id: candidate for candidate in this.candidates}
        ruled = [ruling.candidate for ruling in this.report.rulings] if this.report is not None else []
        bundled = [candidate for candidate in ruled if candidate.id not in proposed]
        for candidate in (*this.candidates, *bundled):
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
        store.write_text(f"{folder}/decision.md", self._decision(this, records, drift))

    def _write_candidate(self, folder: str, proposal: Proposal) -> None:
        self._store.write_text(f"{folder}/manifest.md", proposal.manifest.to_markdown())
        self._store.write_text(f"{folder}/manifest.json", _dump(proposal.manifest.to_json()))
        self._store.write_text(f"{folder}/edit.json", _dump(proposal.edit.to_json()))
        if proposal.smoke:
            self._store.write_text(f"{folder}/smoke.json", _dump(dict(proposal.smoke)))

    def _decision(self, this: Round, records: Sequence[CandidateRecord], drift: DriftRecord | None) -> str:
        lines = [f"# Decision of round {this.number}", ""]
        if this.stop:
            lines += [f"No-op: {this.stop}.", ""]
        if this.critique is not None:
            lines += ["## Critic", "", this.critique.to_markdown()]
        lines += ["## Gate", ""]
        lines += [f"* {phrases.verdict(r)}" for r in records] or ["* nothing to decide"]
        lines += [f"* {phrases.route(route_record(this.number, ruling, self._seed))}" for ruling in this.routes]
        if drift is not None:
            lines += ["", "## Drift", "", phrases.watched(drift)]
        if this.canary is not None:
            lines += ["", "## Canary", "", phrases.canary(this.canary)]
        lines += ["", f"The next incumbent is `{this.deploys.digest}`."]
        return "\n".join(lines) + "\n"

    def _entry(
        self,
        this: Round,
        record: RoundRecord,
        records: Sequence[CandidateRecord],
        routes: Sequence[RouteRecord],
        drift: DriftRecord | None,
    ) -> str:
        score = record.evolve
        rate = f"{100 * score.mean:.1f} % [{100 * score.lo:.1f}, {100 * score.hi:.1f}]" if score else "not measured"
        lines = [f"## Round {record.round}", "", f"incumbent `{record.incumbent[:12]}`, evolve {rate}", ""]
        if record.stop:
            lines += [f"No-op: {record.stop}.", ""]
        lines += [f"* {phrases.verdict(r)}" for r in records] + [f"* {phrases.route(r)}" for r in routes]
        scored = [c for c in self.candidates if c.round == record.round - 1 and c.hit_rate is not None]
        if scored:
            lines += ["", *(f"* {phrases.prediction(c)}" for c in scored)]
        if drift is not None:
            lines += ["", f"Drift: {phrases.watched(drift)}"]
        if this.canary is not None:
            lines += ["", f"Canary: {phrases.canary(this.canary)}"]
        if record.strategy_concern:
            lines += ["", f"Concern: {record.strategy_concern}."]
        now, self._told = self.sessions[self._told :], len(self.sessions)
        if now:
            lines += ["", *phrases.sessions(now)]
        return "\n".join(lines) + "\n"

    def close_index(self) -> None:
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


def route_record(number: int, ruling: RouteRuling, seed: int) -> RouteRecord:
    """A ruling on routes, as it is written down."""
    after = ruling.after
    return RouteRecord(
        round=number,
        clusters=ruling.clusters,
        routes={cluster: after.variants[index].digest for cluster, index in sorted(after.routes.items())},
        before=ruling.before.digest,
        after=after.digest,
        verdict=ruling.decision,
        reason=ruling.reason,
        e_value=ruling.e_value,
        alpha=ruling.alpha,
        pairs=ruling.pairs,
        diverged=ruling.diverged,
        difference=bootstrap_mean(ruling.differences, seed) if ruling.differences else None,
        calls=ruling.calls,
    )


def _dump(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _lines(records: Sequence[Record]) -> str:
    return "".join(json.dumps(r.to_json(), sort_keys=True, ensure_ascii=False) + "\n" for r in records)
