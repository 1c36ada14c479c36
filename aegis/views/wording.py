"""What a report says in words: who ran, what is claimed, on what grounds, and what is not claimed."""

from __future__ import annotations

from collections.abc import Mapping

from aegis.record import Decision, DriftAction, Summary
from aegis.views.folder import RunFolder
from aegis.views.notation import by_chance, percent, point_bounds, points, reachable
from harnessx.sandbox.base import INSTALL

VERDICTS: Mapping[Decision, str] = {
    Decision.SHIP: "shipped",
    Decision.REJECT: "rejected",
    Decision.UNDECIDED: "undecided",
    Decision.NOT_TESTED: "not tested",
}

DRIFT_ACTIONS: Mapping[DriftAction, str] = {
    DriftAction.WATCHED: "watched",
    DriftAction.KEPT: "alarm, not confirmed",
    DriftAction.ROLLED_BACK: "rolled back",
    DriftAction.CONFIRMED: "confirmed as the best",
    DriftAction.UNWATCHED: "not watched",
}

KEYS: Mapping[str, str] = {
    "evolve": "evolve",
    "validation": "validation",
    "sealed": "sealed",
    "ship": "an edit shipped",
    "generation": "a harness of this run",
    "bought": "a gain bought by a wider budget",
}

SPLIT_ROLES = (
    "Intervals are 95 %. The stages read the evolve tasks, so its gain is optimistic; the gate confirmed "
    "edits on the validation tasks, so its gain is selected; the sealed tasks were read only at the end, "
    "and theirs is the gain to quote. Peak is the best harness by evolve and validation, never chosen by "
    "the sealed scores."
)
CURVE = (
    "Each round's incumbent on the evolve tasks (and on validation, where it was measured), with 95 % "
    "intervals. Rounds in which nothing shipped measure the same harness again: their spread is noise. The "
    "sealed scores of the first and the last harness stand at the two ends."
)
CANDIDATES = (
    "An e-value is the evidence that the candidate is better; it ships when it reaches the number given "
    "beside it. Pairs are both arms on the same task and fresh attempt; those that never differ score zero "
    "and cost no model call. A difference is measured on the pairs that decided; a test ends where the evidence "
    "is ahead, so on average the difference of what shipped is larger than the truth, and the sealed gain is the "
    "one to quote. Hit rate is the share of predicted flips that came true in the next round; tasks that failed are "
    "named, so some flip by chance, without any change: the share beside it, from how often attempts of one task "
    "differ. "
    "Undecided is no verdict against an edit: its test ended before the evidence was enough, for the reason "
    "given: pairs or budget ran out, too many pairs could not be run, or the e-value was off course, so far "
    "behind what a shipping edit shows by then that further pairs went elsewhere. Not tested: an earlier "
    "ship, a better screened candidate or the end of a budget came first."
)
DRIFT = (
    "A harness that was never confirmed is held, round by round, against the best one that was. An e-value of 20 "
    "raises the alarm, in at most 5 % of runs in which the harness is no worse; a fresh paired check then decides "
    "whether the best confirmed harness comes back."
)
PRICES = (
    "Tokens of all attempts over those that passed: what one solved task costs, answers that were replayed "
    "counted like those that were paid for. Attempts that passed stand below."
)
GAPS = (
    "Evolve minus sealed, in points with 95 % intervals. The two splits have other tasks, so a harness may find "
    "one of them easier; in the gap of the gain each task is its own control, so what is left above zero is "
    "what the run learnt about the tasks it read and that did not carry over."
)
FRONTIER = (
    "On the evolve tasks, the better the higher, the cheaper the further left. The line joins the harnesses "
    "that none is better than for less. One that was replaced within its round was not measured and is not here."
)
BOUGHT = (
    " A bought gain was turned away because it needs a wider budget: it was screened, not confirmed, and stands "
    "where its screening puts it from its incumbent (dotted)."
)
ABLATION = (
    "The final harness against itself without one edit, on fresh validation draws of their own, so the effect "
    "is what the edit brings today, beside the others, not what it brought when it shipped. Testing stops "
    "where the evidence suffices, which makes the effect of a proven edit look a little larger than it is."
)
LINEAGE = "Every harness that became the incumbent, under the one it was edited from."
GRID = (
    "Evolve tasks by cluster. A column is a task, hardest at the left; a row is a round, oldest at the top; "
    "the stronger the colour, the more attempts passed. An outline is a task that was not run."
)

FLAGGED = "flagged as cheating"
NO_CANARY = "whether an edit passes what only cheating passes was not checked"

ISOLATION: Mapping[str, str] = {
    "bubblewrap": "evolved code ran behind bubblewrap's namespaces, with Landlock and seccomp inside",
    "landlock": "evolved code ran behind Landlock, seccomp and, where this machine has them, namespaces",
    "docker": "evolved code ran in Docker containers, a backend that no test has run",
    "inprocess": f"all harness code ran beside the host, and edits of source code were refused ({INSTALL})",
    "none": "NO WALL stood between evolved code and this machine; isolation=none is an override",
    "process": "NO WALL stood between evolved code and this machine, only a process of its own",
}


def lead(run: RunFolder) -> str:
    """The result in a sentence; ``*…*`` marks the figure to remember."""
    summary = run.summary
    if summary is None:
        rounds = len(run.curves.rounds)
        shipped = sum(candidate.verdict is Decision.SHIP for candidate in run.candidates)
        measured, kept = _plural(rounds, "round"), _plural(shipped, "edit")
        return f"This run has not finished: {measured} measured, {kept} shipped so far."
    sealed = summary.splits.get("sealed")
    shipped = len(summary.having(Decision.SHIP))
    tried = len(summary.candidates)
    edits = f"{_plural(summary.rounds, 'round')} shipped {_plural(shipped, 'edit')} of {tried} proposed"
    if sealed is None or sealed.difference is None or sealed.final is None:
        return f"{edits}. The sealed tasks have not been scored, so there is no gain to quote."
    gain = sealed.difference
    verb = "more" if gain.mean > 0 else "fewer"
    if gain.lo <= 0 <= gain.hi:
        result = f"no gain that can be told from chance: *{points(gain)} points* ({point_bounds(gain)})"
        return f"{edits}. On {gain.n} sealed tasks the final harness shows {result}."
    size = f"{100 * abs(gain.mean):.1f} points"
    return (
        f"{edits}. The final harness solves *{size} {verb}* of the {gain.n} sealed tasks than the one it "
        f"grew from: {percent(sealed.final)} against {percent(sealed.baseline)} (95 % interval of the "
        f"difference {point_bounds(gain)})."
    )


def identity(run: RunFolder) -> list[tuple[str, str]]:
    """Name and value of what identifies the run, for the head of the page."""
    names = ("benchmark", "task_model", "meta", "strategy")
    facts = [(name.replace("_", " ").capitalize(), run.setting(name)) for name in names]
    if (summary := run.summary) is None:
        return [fact for fact in facts if fact[1]]
    facts += [
        ("Gate", f"{summary.gate}, ledger {summary.ledger}" if summary.ledger else summary.gate),
        ("Evolved code ran under", f"isolation: {summary.isolation}"),
        ("Evolved code could ask", ", ".join(summary.hosts)),
        ("Seeds", ", ".join(map(str, summary.seeds))),
        ("Stopped", summary.stopped),
    ]
    return [fact for fact in facts if fact[1]]


def guarantee(run: RunFolder) -> list[str]:
    """What the gate promises about the edits it shipped, what the isolation is, and which hosts were open."""
    if (summary := run.summary) is None:
        return []
    lines = [_gate(summary)]
    if summary.isolation in ISOLATION:
        lines.append(f"isolation: {summary.isolation} means that {ISOLATION[summary.isolation]}.")
    if summary.hosts:
        lines.append(reachable(summary.hosts))
    return [*lines, _cheating(summary)]


def _cheating(summary: Summary) -> str:
    """Who was caught, and what the canaries say."""
    caught = [candidate.id for candidate in summary.candidates if candidate.flagged]
    flagged = f" Flagged as cheating and rejected: {', '.join(caught)}." if caught else ""
    known = summary.canaries
    if not known.tasks:
        return f"No canary tasks were played (the benchmark has none, or gate.canaries is 0): {NO_CANARY}.{flagged}"
    played = f"Each confirmed candidate played {known.tasks} canary tasks, which only cheating passes"
    if known.baseline:
        return (
            f"{played}. The starting harness itself passes {known.baseline} of them; those prove nothing "
            f"about an edit and were left out.{flagged}"
        )
    return f"{played}; the final harness passes {known.final or 0}.{flagged}"


def _gate(summary: Summary) -> str:
    level = "" if summary.alpha is None else f"{100 * summary.alpha:g} %"
    if summary.gate == "seesaw":
        return (
            "The gate is the paper's rule: no task solved before may fail. It bounds no error: it can ship "
            "noise, and it turns an identical copy away as often as chance flips a task."
        )
    test = (
        "A candidate ships only by a paired test on fresh attempts of validation tasks, valid whenever it stops."
        if summary.gate == "paired"
        else f"The gate is {summary.gate}."
    )
    if summary.ledger == "spending" and level:
        return (
            f"{test} The ledger divides {level} among all planned decisions: the chance that this run "
            f"shipped anything that does not help those tasks is at most {level}."
        )
    if summary.ledger == "elond" and level:
        return (
            f"{test} The ledger bounds the false discovery rate: of what ships, at most {level} is "
            "expected to be false. The chance that one of several shipped edits is false can be higher."
        )
    return test


def predictions(summary: Summary) -> str:
    """How the manifests' predictions came out, by bucket; '' where none was scored."""
    scores = [
        f"{bucket} {100 * score.hit_rate:.0f} %{by_chance(score.chance)}, and {score.brier:.2f} "
        f"({_plural(score.ships, 'edit')})"
        for bucket, score in summary.predictions.items()
    ]
    if not scores:
        return ""
    return (
        f"Predicted flips that came true, and their Brier score, by bucket: {'; '.join(scores)}. A manifest does not "
        "say how sure it is: its predictions are held to be as likely as those of its buckets have been so far, one "
        "half at first. A Brier score of 0 is certain and right, 0.25 is what one half for everything gets."
    )


def limits(run: RunFolder) -> list[str]:
    """What the reader may conclude, and what not."""
    general = (
        "The interval of the gain covers the choice of tasks and attempts from this benchmark, for this "
        "model and this starting harness. It says nothing about another model, another benchmark or "
        "another starting point; one seed says little about what the next seed would find."
    )
    if not run.offline:
        return [general]
    return [
        "No language model took part. The agent is bounded, a mechanical player that forgets, misreads "
        "formats and follows only procedures it is told; the edits came from a fixed catalog. So the run "
        "shows the loop at work, end to end: whether it finds edits that help this player and turns away "
        "those that do not, and whether the gain holds on tasks of the same world that it never read.",
        "It does not show how large a gain a language model would have, that these edits would help one, "
        "or that a meta-agent which writes its own edits would find them. Effects here come from mechanics "
        "that a catalog can address by design; a real model fails in ways that nobody listed beforehand.",
        general,
    ]


def versions(run: RunFolder) -> str:
    """Interpreter, commit and packages, a line each."""
    if run.summary is None:
        return ""
    known = run.summary.versions
    lines = [f"python {known.python}", f"commit {known.commit or 'unknown (not in a repository)'}"]
    return "\n".join(lines + [f"{name} {version}" for name, version in sorted(known.packages.items())])


def digests(run: RunFolder) -> str:
    """The identities of data, model and harnesses, a line each."""
    if run.summary is None:
        return ""
    known = run.summary.digests
    names = ("benchmark", "model", "baseline", "final", "peak")
    return "\n".join(f"{name:<10} {getattr(known, name) or 'not known'}" for name in names)


def configuration(run: RunFolder) -> str:
    """The resolved configuration as YAML."""
    import yaml

    return yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True) if run.config else ""


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
