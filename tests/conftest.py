"""A run of all tests counts only if the adversarial corpus was played behind ``landlock``, whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

CORPUS = Path(__file__).parent / "adversarial"
_PLAYED: Counter[tuple[str, str]] = Counter()
"""How many attacks came out how, by wall."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count; in a run of several processes this one hears of all."""
    file = Path(report.nodeid.partition("::")[0])
    if file.parent.name == CORPUS.name and (report.when == "call" or not report.passed):
        _PLAYED[file.stem.removeprefix("test_"), report.outcome] += 1


def _due(config: pytest.Config) -> bool:
    """Whether this run is one of all tests, or of all of the corpus."""
    chosen = [Path(config.invocation_params.dir, arg.partition("::")[0]).resolve() for arg in config.args]
    whole = any(path == CORPUS or path in CORPUS.parents for path in chosen)
    narrowed = config.option.keyword or config.option.collectonly or config.option.markexpr == "nightly"
    return whole and not narrowed and not hasattr(config, "workerinput")


def _lacking() -> str:
    """Why this run proves nothing of the wall; '' where it does."""
    from adversarial.contained import WAIVER, waived
    from adversarial.corpus import CORPUS as attacks

    played = _PLAYED["landlock", "passed"] + _PLAYED["landlock", "failed"]
    if played == len(attacks) or "landlock" in waived():
        return ""
    return f"only {played} of {len(attacks)} attacks were played behind landlock; {WAIVER}=landlock does without"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that proves nothing of the wall."""
    if _due(session.config) and not session.shouldstop and not session.shouldfail and _lacking():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say behind which walls the corpus was played, and which are not here."""
    if not _PLAYED and not _due(config):
        return
    from adversarial.table import lines

    from harnessx.sandbox import BACKENDS

    terminalreporter.section("adversarial corpus")
    for (wall, outcome), count in sorted(_PLAYED.items()):
        terminalreporter.line(f"{wall}: {count} {outcome}")
    for sandbox in BACKENDS:
        if lacking := sandbox.missing():
            terminalreporter.line(f"{sandbox.name}: skipped, {lacking}")
    terminalreporter.line(lines()[-1])
    if _due(config) and (lacking := _lacking()):
        terminalreporter.line(f"FAILED: {lacking}", red=True)
