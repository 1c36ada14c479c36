"""What the static policy says of the corpus: a good error for nearly all of it, and no wall for the rest."""

from __future__ import annotations

from dataclasses import replace

from adversarial.corpus import CORPUS, HARMLESS
from adversarial.table import lines, refusals
from aegis.gate.source import findings_in


def test_each_finding_names_line_rule_and_remedy():
    findings = [finding for found in refusals().values() for finding in found]
    assert len(findings) > len(CORPUS)
    for finding in findings:
        assert finding.line > 0
        assert finding.rule
        assert finding.remedy
        assert str(finding).startswith(f"assets/attack.py:{finding.line}: {finding.rule}: ")


def test_it_refuses_nine_of_ten_attacks_by_what_they_do_and_not_by_what_is_around_them():
    around = (HARMLESS, replace(HARMLESS, body="return ''", tool=True))
    assert [findings_in({"assets/attack.py": attack.source({"mark": "m"})}) for attack in around] == [[], []]
    assert sum(map(bool, refusals().values())) >= 0.9 * len(CORPUS)


def test_the_table_has_every_attack():
    text = "\n".join(lines())
    assert all(f"  {attack.name} | " in text for attack in CORPUS)
