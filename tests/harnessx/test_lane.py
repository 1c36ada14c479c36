"""A lane, spoken to over its own socket: what it reports, what it cannot do, and when it ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from runner_world import harness, lines
from worker_drive import WALL

from harnessx.errors import Outcome, StopReason
from harnessx.messages import Conversation, Message, ModelResponse
from harnessx.runner.jobs import RolloutResult
from harnessx.runner.lane import Lane as LaneAtWork
from harnessx.runner.lane import summarize
from harnessx.runner.wire import pack
from harnessx.trajectory import Exchange, Step, Trajectory
from harnessx.web import WebRules

HERE = Path(__file__).parent


class Lane:
    """A real lane process and our end of its socket."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(20)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "harnessx.runner.lane", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(HERE)},
                stderr=subprocess.PIPE,
                text=True,
            )
        self._stream = self.sock.makefile("rb")

    def tell(self, **frame: object) -> None:
        self.sock.sendall(pack(frame))

    def hear(self) -> dict:
        length = int.from_bytes(self._stream.read(4), "big")
        return json.loads(self._stream.read(length))

    def init(self, log: Path, **benchmark: object) -> None:
        rooms = {"_target_": "runner_world.Rooms", "log": str(log), **benchmark}
        clerk = {"_target_": "runner_world.Clerk", "log": str(log)}
        model = {"roles": {"main": clerk}, "fallback": {}, "sampling": {}}
        self.tell(t="init", benchmark=rooms, model=model, isolation=WALL, seed=0, persist=True, window_s=None,
                  patience={}, share=4, metered=False, web=WebRules().to_json(), servers=[])  # fmt: skip

    def job(self, ident: int, **options: object) -> None:
        one = harness()
        self.tell(t="harness", digest=one.digest, harness=one.to_json(), granted=["read", "write"])
        order = {"scope": "s/a/0", "attempt": 0, "tape": [], "keep_tape": False, "trajectories": False,
                 "confirming": False, **options}  # fmt: skip
        task = {"prompt": "Say a word.", "id": "a", "cluster": ""}
        self.tell(t="job", id=ident, task=task, arms=[{"harness": one.digest, "key": "k"}], **order)


@pytest.fixture
def lane():
    lane = Lane()
    yield lane
    lane.sock.close()
    lane.process.kill()
    lane.process.wait()
    lane.process.stderr.close()


def test_recordings_arrive_before_the_result_that_rests_on_them_and_done_comes_last(lane, tmp_path):
    lane.init(tmp_path / "log")
    lane.job(7, trajectories=True)
    frames = []
    while not frames or frames[-1]["t"] != "done":
        frames.append(lane.hear())
    *recorded, arm, done = frames
    assert done == {"t": "done", "id": 7}
    assert (arm["t"], arm["id"], arm["index"]) == ("arm", 7, 0)
    assert RolloutResult.from_json(arm["result"]).passed
    assert len(Trajectory.from_jsonl(arm["trajectory"]).steps) == 4
    rows = [row for frame in recorded for row in frame["scopes"]["s/a/0"]]
    assert len(rows) == 4
    assert {origin for _, origin, _ in rows} == {"k"}


def test_what_was_recorded_before_is_replayed_and_not_reported_again(lane, tmp_path):
    lane.init(tmp_path / "log")
    lane.job(1)
    rows = []
    while (frame := lane.hear())["t"] != "done":
        rows += [[key, "other", body] for key, _, body in frame.get("scopes", {}).get("s/a/0", [])]
    lane.job(2, tape=rows)
    arm, done = lane.hear(), lane.hear()
    assert arm["result"]["replayed_calls"] == 4
    assert done["id"] == 2


def test_a_benchmark_that_cannot_be_made_is_said_in_one_line(lane, tmp_path):
    lane.init(tmp_path / "log", fault="raise")
    assert lane.hear() == {"t": "unable", "error": "RuntimeError: the data set is not on this machine"}


def test_a_lane_ends_when_its_pool_is_gone(lane, tmp_path):
    lane.init(tmp_path / "log")
    lane.job(1)
    lane.sock.shutdown(socket.SHUT_RDWR)
    assert lane.process.wait(20) == 0


def test_a_lane_that_is_told_nonsense_says_so_and_ends(lane, tmp_path):
    lane.sock.sendall((4).to_bytes(4, "big") + b"nope")
    assert lane.process.wait(20) == 0
    assert "not JSON" in lane.process.stderr.read()
    assert lines(tmp_path / "log") == []


def test_two_results_have_equal_requests_only_if_they_asked_the_same_in_the_same_order():
    def record(*keys: str) -> Trajectory:
        asked = [Exchange("main", 0, tuple(Conversation([Message("user")])), ModelResponse(), key) for key in keys]
        return Trajectory("t", steps=[Step(i, [exchange]) for i, exchange in enumerate(asked)])

    digests = [summarize(record(*keys), "k").requests for keys in (["a", "b"], ["a", "b"], ["b", "a"], ["a"])]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_result_comes_back_from_json_as_it_was():
    record = Trajectory("t", 3, "h", outcome=Outcome.PASSED, stop_reason=StopReason.STEP_LIMIT, reward=1.0)
    result = summarize(record, "k")
    assert RolloutResult.from_json(json.loads(json.dumps(result.to_json()))) == result


class Twice(LaneAtWork):
    """A lane whose rollouts end as they are told."""

    def __init__(self, *records: Trajectory) -> None:
        super().__init__()
        self.records = list(records)

    async def _once(self, *_: object) -> Trajectory:
        return self.records.pop(0)


def ended(outcome: Outcome, *trail: str, lost: bool = False) -> Trajectory:
    return Trajectory("t", outcome=outcome, trail=list(trail), lost=lost)


LOST = ended(Outcome.HARNESS_ERROR, "a", "b", lost=True)
AGAIN, OTHERWISE = ended(Outcome.PASSED, "a", "b", "c"), ended(Outcome.PASSED, "a", "x", "c")
BROKEN = ended(Outcome.INFRA_ERROR, "a")


@pytest.mark.parametrize(
    ("records", "counts"),
    [
        ([LOST, AGAIN], AGAIN),
        ([LOST, OTHERWISE], LOST),
        ([LOST, LOST, AGAIN], LOST),
        ([LOST, BROKEN, AGAIN], AGAIN),
        ([LOST, BROKEN, BROKEN], BROKEN),
        ([BROKEN, LOST, OTHERWISE], LOST),
    ],
    ids=["again", "otherwise", "lost twice", "then broken", "broken for good", "late"],
)
async def test_after_a_lost_worker_the_second_time_counts_where_it_repeats_the_first(records, counts):
    assert await Twice(*records)._rollout(None, None, {}) is counts  # type: ignore[arg-type]
