"""Talking to the host out of turn: forged endings, malformed and endless frames, calls that nobody granted.

No wall stops a frame: the host reads what it was promised and nothing else, under any isolation. So these bite
only where the one check that stops them is switched off.
"""

from __future__ import annotations

from functools import partial
from textwrap import indent

from adversarial.attack import Attack, Bite
from adversarial.sentinels import ENDLESS, seen

_HEAD = """
import gc
import json

ASK = {"t": "complete", "id": 1, "path": "main", "keep": 0, "add": [], "role": "main", "system": "", "tools": []}
CALL = {"t": "call", "id": 1, "call": {"id": "", "name": "wait", "arguments": {}}}
END = {"t": "end", "stop": "finished", "answer": "done", "claims": {}}
FAILED = {"t": "failed", "kind": "failure", "source": "environment", "message": "the world is gone"}

def the_port():
    return next(o for o in gc.get_objects() if type(o).__name__ == "WirePort")

def send(body, length=None):
    size = len(body) if length is None else length
    the_port()._sock.setblocking(True)
    the_port()._sock.sendall(size.to_bytes(4, "big") + body)

def tell(frame):
    send(json.dumps(frame).encode())
"""
_BROKEN = seen("a record that cannot be written")
_UNTRUE = seen("an ending that did not happen")
_UNCOUNTED = seen("a rollout that does not count")


def _say(name: str, body: str, sentinel: object, lax: str, ends: str, **options: object) -> Attack:
    whole = f"try:\n{indent(body.strip(), '    ')}\nfinally:\n    await asyncio.Event().wait()\n"
    return Attack(name, whole, sentinel, ends, _HEAD, Bite.LAX, lax, **options)  # type: ignore[arg-type]


_text = partial(_say, lax="the encoding of a frame", sentinel=_BROKEN)
_stall = partial(_say, lax="the watchdog", sentinel=ENDLESS, ends="said nothing for", stalls=True)

ATTACKS = (
    _say("an ending that did not happen", "tell({**END, 'stop': 'environment_done'})", _UNTRUE,
         "the reason of an ending", "which did not happen"),
    _say("a failure of the world", "tell(FAILED)", _UNCOUNTED, "the source of a failure", "the world is gone"),
    _say("a failure of the model", "tell({**FAILED, 'source': 'model'})", _UNCOUNTED, "the source of a failure",
         "the world is gone"),
    _say("a failure of the verifier", "tell({**FAILED, 'source': 'verifier'})", _UNCOUNTED, "the source of a failure",
         "the world is gone"),
    _say("an answer longer than a frame", "tell({**END, 'answer': 'x' * (33 << 20)})",
         seen("a longer text than a frame may be"), "the limit of a frame", "at most 33554432"),
    _text("half a letter in a call", """
CALL["call"]["name"] = "look"
CALL["call"]["arguments"] = {"x": chr(0xD800)}
tell(CALL)
await asyncio.sleep(0.1)
tell(END)""", ends="not JSON|surrogates"),
    _say("a call that nests too deep", """
deep = []
for _ in range(500):
    deep = [deep]
CALL["call"] |= {"name": "look", "arguments": {"x": deep}}
tell(CALL)
await asyncio.sleep(0.1)
tell(END)""", _BROKEN, "the depth of a frame", "nested more than 100 deep"),
    _say("more in all than may be sent", """
CALL["call"] |= {"name": "look", "arguments": {"text": "x" * (1 << 20)}}
for number in range(20):
    tell({**CALL, "id": number})
await asyncio.sleep(0.2)
tell(END)""", seen("more text than a rollout may send"), "the limit of all that is sent",
         "more than 16 MB in one rollout"),
    _say("an address for the key", """
tell({**ASK, 'sampling': {'api_base': 'http://127.0.0.1'}})
await asyncio.sleep(0.1)
tell(END)""", seen("an address for the key"), "the settings of a request", "api_base"),
    _say("a tool that nobody granted", """
CALL["call"]["name"] = "cheat"
tell(CALL)
await asyncio.sleep(0.1)
tell(END)""", seen("a tool that nobody granted ran"), "the permission of a call", ""),
    _say("more requests than steps", """
for number in range(200):
    tell({**ASK, "id": number})
    await asyncio.sleep(0.001)
await asyncio.sleep(0.2)
tell(END)""", seen("more steps than the limit"), "the limit of steps", "", ),
    _say("more calls at once than may wait", """
for number in range(1000):
    tell({**CALL, "id": number})
await asyncio.sleep(0.2)
tell(END)""", seen("more frames at once than may wait"), "the limit of frames at once", "more than 256 frames at once"),
    _say("more callers than may be", """
for number in range(200):
    tell({**ASK, "id": number, "path": f"processor:{number}"})
    await asyncio.sleep(0.001)
await asyncio.sleep(0.2)
tell(END)""", seen("more callers than may be"), "the limit of callers", "more than 64 paths"),
    _stall("half a frame", "send(b'{', 100)"),
    _stall("a frame a letter at a time", """
import time
send(b"", 1000)
for _ in range(1000):
    the_port()._sock.send(b" ")
    time.sleep(0.1)"""),
    _stall("frames that mean nothing yet", """
while True:
    the_port()._sock.send(bytes(3))
    await asyncio.sleep(60)"""),
)  # fmt: skip
