import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from views_run import HOSTILE, write, write_run

from aegis.record import Calls, Decision, Summary, Versions
from aegis.record_ablation import Ablation, LeftOut, Place
from aegis.views.folder import RunFolder
from aegis.views.report import render


class Page(HTMLParser):
    """What a browser would see: elements, their text, and whether every element is closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.style, self.open, self.attributes = [], "", "", [], set()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            self.style += data
        else:
            self.text += data


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "household" / "seed-0")


def rewrite(run, **changes):
    summary = Summary.from_json(json.loads((run / "summary.json").read_text()))
    write(run / "summary.json", replace(summary, **changes).to_json())


def test_every_element_is_closed(run):
    page = Page(render(run))
    assert page.open == []
    assert {"table", "svg", "details"} <= set(page.elements)


def test_the_page_needs_nothing_but_itself(run):
    page = Page(render(run))
    assert not {"script", "link", "img", "iframe"} & set(page.elements)
    assert not {"src", "href", "srcset"} & page.attributes
    assert "@import" not in page.style
    assert "url(" not in page.style


def test_a_hostile_title_is_text_everywhere(run):
    for name in ("config.yaml", "journal.md"):
        (run / name).write_text((run / name).read_text() + f"\nnote: '{HOSTILE}'\n")
    generations = json.loads((run / "data/generations.json").read_text())
    generations[1]["title"] = HOSTILE
    write(run / "data/generations.json", generations)
    scores = json.loads((run / "scoreboard.json").read_text())
    scores["clusters"] = dict.fromkeys(scores["clusters"], '"><img src=x onerror=alert(2)>')
    write(run / "scoreboard.json", scores)
    rewrite(run, stopped=HOSTILE, isolation=HOSTILE, seconds={HOSTILE: 1.0})
    page = Page(render(run))
    assert not {"script", "img"} & set(page.elements)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert page.text.count('<script>alert("x")</script>') >= 4


def test_isolation_and_guarantee_stand_in_the_head(run):
    text = Page(render(run)).text
    head = text[: text.index("Before and after")]
    assert "isolation: landlock means that evolved code ran behind Landlock, seccomp" in head
    assert "chance that this run shipped anything that does not help those tasks is at most 5 %" in head
    assert "20.0 points more of the 40 sealed tasks" in head


def test_a_hit_rate_stands_beside_its_chance_level(run):
    text = Page(render(run)).text
    assert "prompt 60 %, 21 % would by chance, and 0.24 (2 edits)" in text
    assert "21 % by chance" in text


@pytest.mark.parametrize(
    ("isolation", "said"),
    [("none", "NO WALL stood between"), ("inprocess", "edits of source code were refused (install bubblewrap")],
)
def test_a_run_without_a_wall_says_so(run, isolation, said):
    rewrite(run, isolation=isolation)
    assert said in Page(render(run)).text


def test_the_claim_follows_the_gate_and_its_ledger(run):
    rewrite(run, ledger="elond")
    assert "false discovery rate" in render(run)
    rewrite(run, gate="seesaw", ledger="", alpha=None)
    page = render(run)
    assert "It bounds no error" in page
    assert "at most 5 %" not in page


def test_a_gain_whose_interval_holds_zero_is_not_claimed(tmp_path):
    text = Page(render(write_run(tmp_path / "x" / "run", gain=0.05))).text
    assert "no gain that can be told from chance" in text
    assert "points more" not in text


def test_the_offline_statement_appears_only_where_no_language_model_took_part(run):
    assert "No language model took part" in render(run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("task_model: bounded", "task_model: openai/gpt-5.4-mini"))
    assert "No language model took part" not in render(run)


def test_shipped_edits_and_the_others_are_in_tables_of_their_own(run):
    text = Page(render(run)).text
    shipped = text[text.index("Edits that shipped") : text.index("Edits that did not")]
    rest = text[text.index("Edits that did not") : text.index("Lineage")]
    candidates = RunFolder.read(run).candidates
    assert {c.id for c in candidates if c.id in shipped} == {c.id for c in candidates if c.verdict is Decision.SHIP}
    assert all(c.id in rest and c.reason in rest for c in candidates if c.verdict is not Decision.SHIP)


def test_the_differences_of_shipped_edits_are_said_to_flatter(run):
    text = " ".join(Page(render(run)).text.split())
    assert "on average the difference of what shipped is larger than the truth" in text


def test_a_candidate_that_was_not_tested_shows_no_number(run):
    html = render(run)
    candidate = next(c for c in RunFolder.read(run).candidates if c.verdict is Decision.NOT_TESTED)
    row = html[html.index(f"<code>{candidate.id}</code>") :]
    text = Page("<tr><td>" + row[: row.index("</tr>")] + "</tr>").text
    assert text.endswith(candidate.reason + "––––")


def test_the_grid_has_a_cell_for_every_task_and_round_and_marks_what_was_not_run(run):
    scores = json.loads((run / "scoreboard.json").read_text())
    del scores["rounds"][2]["rates"]["evolve-07"]
    write(run / "scoreboard.json", scores)
    html = render(run)
    assert html.count("<rect") == 40 * 8
    assert html.count('class="missing"') == 1
    assert "evolve-07 · round 2 · not run" in html


def test_an_unfinished_run_shows_what_there_is(run):
    files = ["summary.json", "data/sealed.json", "scoreboard.json", "data/generations.json"]
    files += ["data/candidates.jsonl", "data/rounds.jsonl", "curves.json", "journal.md"]
    for file in files:
        (run / file).unlink()
        page = Page(render(run))
        assert page.open == []
        assert "This run has not finished" in page.text
        assert ("Learning curve" in page.text) == (run / "curves.json").exists()
    assert "What this shows, and what it does not" in page.text


def test_unscored_rounds_and_a_single_round_can_be_drawn(run):
    curves = json.loads((run / "curves.json").read_text())
    curves["rounds"] = [{**curves["rounds"][0], "evolve": None}]
    write(run / "curves.json", curves)
    assert "nan" not in Page(render(run)).text
    rewrite(run, splits={})
    assert "there is no gain to quote" in render(run)


def test_prices_stand_by_split_in_the_order_of_the_splits_and_gaps_below(run):
    text = Page(render(run)).text
    prices = text[text.index("What a solved task costs") : text.index("Learning curve")]
    assert prices.index("Evolve20") < prices.index("Validation20") < prices.index("Sealed20")
    assert "12\u2009500 tokens64 of 80 attempts" in prices
    assert "Evolve − sealed+3.0−7.0 … +13.0" in prices
    rewrite(run, costs={}, gaps={})
    assert "What a solved task costs" not in Page(render(run)).text


def test_the_frontier_marks_bought_gains_and_is_left_out_where_nothing_was_measured(run):
    html = render(run)
    assert html.count('class="bought">') == 2, "a hollow dot, and the line from its incumbent"
    assert "C-R0-02: 62.0 %, 15\u2009300 tokens an attempt, 40 attempts" in Page(html).text
    points = json.loads((run / "data/frontier.json").read_text())
    write(run / "data/frontier.json", [{**points[0], "name": HOSTILE}])
    hostile = Page(render(run))
    assert hostile.open == []
    assert "script" not in hostile.elements
    (run / "data/frontier.json").unlink()
    assert "Accuracy and cost" not in Page(render(run)).text


def test_an_ablation_of_the_run_is_shown(run):
    assert "earn their place" not in Page(render(run)).text
    edits = (
        LeftOut(("C-R0-01",), HOSTILE, "d", ("C-R3-01",), Place.EARNS, "why", 0.01, 120.0, 80, 40),
        LeftOut(("C-R1-01",), "second", "e", (), Place.NO_LONGER, "the same"),
    )
    found = Ablation("f", edits, None, ("C-R1-01",), None, 0.05, 480, 0.03, "P(x) ≤ 0.05", 1, Calls(), 1, Versions("3"))
    (run / "ablation").mkdir()
    write(run / "ablation/ablation.json", found.to_json())
    page = Page(render(run))
    shown = page.text[page.text.index("Do they still earn their place?") :]
    assert "no longer earns its place" in shown
    assert "with C-R3-01, which does not apply without" in shown
    assert page.open == []
    assert "script" not in page.elements


def test_a_fork_of_the_lineage_opens_a_second_lane(run):
    generations = json.loads((run / "data/generations.json").read_text())
    generations.append({**generations[-1], "digest": "f" * 32, "parent": generations[1]["digest"]})
    before = render(run)
    write(run / "data/generations.json", generations)
    assert 'cx="38.0"' not in before
    assert 'cx="38.0"' in render(run)


def test_rendering_is_a_function_of_the_folder(run):
    assert render(run) == render(run)
