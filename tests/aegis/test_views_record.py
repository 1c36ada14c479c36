import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from views_run import write_run

from aegis.record import (
    ArmCalls,
    Bucket,
    Calls,
    CandidateRecord,
    CurvePoint,
    Curves,
    Decision,
    Prediction,
    RecordInvalid,
    Summary,
)
from aegis.statistics import Interval
from aegis.views.folder import RunFolder
from harnessx.errors import UserError

fraction = st.floats(-1, 1)
text = st.text(max_size=12)
intervals = st.builds(Interval, fraction, fraction, fraction, st.integers(1, 500))
calls = st.builds(Calls, st.integers(0, 999), st.integers(0, 999))
names = st.lists(text, max_size=3).map(tuple)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=5,
)
candidates = st.builds(
    CandidateRecord,
    id=text,
    round=st.integers(0, 99),
    bucket=st.lists(st.sampled_from(Bucket), max_size=2).map(tuple),
    title=text,
    harness=text,
    parent=text,
    verdict=st.sampled_from(Decision),
    check=text,
    reason=text,
    e_value=st.none() | st.floats(0, 1e12),
    alpha=st.none() | fraction,
    difference=st.none() | intervals,
    calls=st.builds(ArmCalls, calls, calls),
    predicted=st.builds(Prediction, names, names, names),
    hit_rate=st.none() | fraction,
    edit=json_values,
)


@given(candidates)
def test_a_record_survives_the_way_through_json(candidate):
    assert CandidateRecord.from_json(json.loads(json.dumps(candidate.to_json()))) == candidate


def test_every_record_of_a_run_folder_is_read_as_it_was_written(tmp_path):
    path = write_run(tmp_path / "x" / "run")
    run = RunFolder.read(path)
    assert run.summary.to_json() == json.loads((path / "summary.json").read_text())
    assert run.scoreboard.to_json() == json.loads((path / "scoreboard.json").read_text())
    written = [json.loads(line) for line in (path / "data/candidates.jsonl").read_text().splitlines()]
    assert [candidate.to_json() for candidate in run.candidates] == written


def test_the_summary_has_the_fields_that_others_read(tmp_path):
    data = json.loads((write_run(tmp_path / "x" / "run") / "summary.json").read_text())
    assert data["schema"] == 1
    assert set(data["splits"]["sealed"]) == {"baseline", "final", "peak", "difference"}
    assert set(data["splits"]["sealed"]["difference"]) == {"mean", "lo", "hi", "n"}
    assert data["splits"]["validation"]["peak"] is None, "an unscored metric is null"
    assert data["dollars"] is None
    assert data["isolation"] == "landlock"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_never_written(number):
    curves = Curves((CurvePoint(1, "a", Interval(0.5, number, 1.0, 3)),))
    with pytest.raises(ValueError, match=r"Curves\.rounds\[0\]\.evolve\.lo"):
        curves.to_json()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "expected an object"),
        ({"rounds": []}, "schema None"),
        ({"schema": 2, "rounds": []}, "use the version that wrote the run"),
        ({"schema": 1}, "no rounds"),
        ({"schema": 1, "rounds": [], "extra": 1}, "unknown extra"),
        ({"schema": 1, "rounds": [{"round": "one"}]}, r"rounds\[0\]: no harness"),
        ({"schema": 1, "rounds": 7}, "Curves.rounds: expected"),
    ],
)
def test_a_malformed_record_is_refused_by_field(data, said):
    with pytest.raises(RecordInvalid, match=said):
        Curves.from_json(data)


def test_a_wrong_type_deep_inside_is_named_with_its_path(tmp_path):
    path = write_run(tmp_path / "x" / "run")
    data = json.loads((path / "summary.json").read_text())
    data["splits"]["sealed"]["final"]["mean"] = "high"
    with pytest.raises(RecordInvalid, match=r"Summary\.splits\.sealed\.final\.mean: expected float, got 'high'"):
        Summary.from_json(data)


def test_a_torn_last_line_is_not_there_yet_and_a_later_line_replaces_an_earlier_one(tmp_path):
    path = write_run(tmp_path / "x" / "run")
    before = RunFolder.read(path).candidates
    again = replace(before[0], hit_rate=0.25)
    with (path / "data/candidates.jsonl").open("a") as file:
        file.write(json.dumps(again.to_json()) + "\n" + '{"schema": 1, "id": "C-R')
    assert RunFolder.read(path).candidates == (again, *before[1:])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("summary.json", "{", "summary.json is not JSON"),
        ("data/generations.json", "{}", "expected a list"),
        ("config.yaml", "a: [", "config.yaml is not YAML"),
        ("config.yaml", "- a", "expected a mapping"),
        ("curves.json", '{"schema": 1}', "curves.json: Curves: no rounds"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, file, content, said):
    path = write_run(tmp_path / "x" / "run")
    (path / file).write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        RunFolder.read(path)
    assert "\n" not in str(caught.value)
