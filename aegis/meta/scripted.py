"""A meta-agent that answers from a file: for tests, for teaching, for replaying a hand-made edit.

The file is a YAML list, one entry a round (the last one repeats when ``repeat`` is set in it):

    - prioritize: [malformed_call]        # left out: every region, as surveyed; []: a no-op
      propose:
        - title: …                        # any manifest field; the others are filled in
          bucket: [processor]
          edit: [{op: insert, processor: {_target_: …}}]
          smoke: {assets/x.py: "def test_…"}
          revision: {…}                   # what it becomes when the Critic asks; left out: withdrawn
      review: {ranking: [1, 2], requests: {1: "…"}, no_op: "", strategy_concern: ""}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis.candidate import Candidate, Proposal
from aegis.manifest import Evidence, FileChange, Manifest, Signature
from aegis.meta.base import Brief, Case, Judgement, Plan, Review, Survey
from aegis.record import Bucket, Prediction
from harnessx.algebra import Edit
from harnessx.errors import HarnessInvalid, UserError

ROUND = ("prioritize", "propose", "review", "repeat")
PROPOSAL = tuple(
    """edit title bucket anchors file_changes unlock signature failure_evidence root_cause targeted_fix
    risk_argument overlap lever smoke revision""".split()
)
REVIEW = ("ranking", "requests", "no_op", "strategy_concern")


@dataclass
class ScriptedMeta:
    """Answers round n with the n-th entry of ``path``; after the last, it proposes nothing.

    Raises:
        UserError: the file cannot be read, is not a list of mappings, or a proposal in it is malformed.
    """

    path: str
    name: str = "scripted"

    def __post_init__(self) -> None:
        import yaml

        try:
            rounds = yaml.safe_load(Path(self.path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"meta.path={self.path}: {' '.join(str(error).split())}") from error
        if not isinstance(rounds, list) or not all(isinstance(r, dict) for r in rounds):
            raise UserError(f"meta.path={self.path}: a list of mappings is expected, one per round")
        self._rounds: list[dict[str, Any]] = rounds
        for number, row in enumerate(rounds, start=1):
            self._known(f"round {number}", row, ROUND)
            self._known(f"the review of round {number}", row.get("review") or {}, REVIEW)
            for proposal in row.get("propose") or []:
                self._check(number, proposal)

    def _known(self, where: str, row: Mapping[str, Any], keys: Sequence[str]) -> None:
        for key in row:
            if key not in keys:
                raise UserError(f"meta.path={self.path}: unknown key {key!r} in {where}; valid: {', '.join(keys)}")

    def _check(self, number: int, row: Mapping[str, Any]) -> None:
        try:
            self._known(f"a proposal of round {number}", row, PROPOSAL)
            Edit.from_json(row["edit"])
            _ = [Bucket(b) for b in row.get("bucket", ())]
            _ = [FileChange(summary="", **c) for c in row.get("file_changes", ()) if "summary" not in c]
            if row.get("revision") is not None:
                self._check(number, row["revision"])
        except (AttributeError, KeyError, TypeError, ValueError, HarnessInvalid) as error:
            raise UserError(f"meta.path={self.path}: a proposal of round {number}: {error!r}") from error

    def _round(self, number: int) -> Mapping[str, Any]:
        if number <= len(self._rounds):
            return self._rounds[number - 1]
        last = self._rounds[-1] if self._rounds else {}
        return last if last.get("repeat") else {}

    async def judge(self, cases: Sequence[Case]) -> Sequence[Judgement | None]:
        """Keeps the first symptoms."""
        return [None] * len(cases)

    async def prioritize(self, survey: Survey) -> Plan:
        """The scripted order, or every region."""
        landscape = survey.landscape
        chosen = self._round(landscape.round).get("prioritize")
        return Plan(tuple(r.category for r in landscape.regions) if chosen is None else tuple(chosen))

    async def propose(self, brief: Brief) -> Sequence[Proposal]:
        """The scripted edits."""
        rows = self._round(brief.round).get("propose") or []
        return [self._proposal(row, brief, number) for number, row in enumerate(rows, start=1)]

    async def revise(self, proposal: Proposal, request: str, brief: Brief) -> Proposal | None:
        """The scripted revision of that proposal."""
        number = int(proposal.manifest.candidate_id.rsplit("-", 1)[1])
        row = self._round(brief.round)["propose"][number - 1].get("revision")
        return None if row is None else self._proposal(row, brief, number)

    async def review(self, candidates: Sequence[Candidate], brief: Brief) -> Review:
        """The scripted review, or everything in order."""
        row = self._round(brief.round).get("review") or {}
        ids = [c.id for c in candidates]
        ranking = [brief.candidate_id(n) for n in row["ranking"]] if "ranking" in row else ids
        requests = {brief.candidate_id(n): text for n, text in (row.get("requests") or {}).items()}
        return Review(tuple(ranking), requests, row.get("no_op", ""), row.get("strategy_concern", ""))

    @staticmethod
    def _proposal(row: Mapping[str, Any], brief: Brief, number: int) -> Proposal:
        edit = Edit.from_json(row["edit"])
        failing = brief.digest.failing
        anchors = tuple(e.anchor for t in failing[:1] for e in t.excerpts[:1])
        manifest = Manifest(
            candidate_id=brief.candidate_id(number),
            title=row.get("title", "scripted edit"),
            bucket=tuple(Bucket(b) for b in row.get("bucket", ["config"])),
            capability_evidence=(Evidence("trace", "seen in a failing task", tuple(row.get("anchors", anchors))),),
            file_changes=tuple(
                FileChange(c["path"], c["action"], c.get("summary", "scripted"))
                for c in row.get("file_changes", [{"path": "harness.yaml", "action": "modify"}])
            ),
            predicted_impact=Prediction(unlock=tuple(row.get("unlock", [t.task for t in failing]))),
            attribution_signature=Signature("processor_invocation", row.get("signature", "scripted")),
            failure_evidence=row.get("failure_evidence", "see the anchors"),
            root_cause=row.get("root_cause", "scripted"),
            targeted_fix=row.get("targeted_fix", "scripted"),
            risk_argument=row.get("risk_argument", "scripted"),
            overlap=row.get("overlap", ""),
            lever=row.get("lever", ""),
        )
        return Proposal(edit, manifest, dict(row.get("smoke", {})))
