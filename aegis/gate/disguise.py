"""What a text may hide: every reading of it that a simple disguise gives.

Readings are the text itself; reversed; with its letters rotated by 13; and what base64, base32, hex,
character codes, escapes and zlib inside base64 decode to, three layers deep. `pieces` gives the parts of
which a source or a value is made, so that what is split over concatenations or lists is read joined.

What gets through: ciphers with a key, alphabets of one's own, pieces out of order. Data that no reading
makes sense of is found by `opaque` if it is long and in one piece.
"""

from __future__ import annotations

import ast
import base64
import binascii
import codecs
import html
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import unquote

from harnessx.errors import UserError

LAYERS = 3
MOST = 4_000_000
"""Characters of all readings together; beyond it a text is refused unread."""

_WORD = re.compile(r"[^\W_]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_BASE32 = re.compile(r"[A-Z2-7]{16,}")
_HEX = re.compile(r"(?:(?:0x|\\x)?[0-9a-fA-F]{2}[\s,:;'\"]{0,4}){6,}")
_CODES = re.compile(r"(?:\b\d{2,3}\b\D{1,12}){5,}\d{2,3}\b")
_NUMBER = re.compile(r"\d+")
_BLOB = re.compile(r"[A-Za-z0-9+/_=-]{160,}")
_NUMBERS = re.compile(r"(?:-?\d+\s*,\s*){63,}")


class TooMuch(UserError):
    """More encoded text than anyone reads."""


def words(text: str) -> list[str]:
    """The words of a text, whatever its case, accents, punctuation and width."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Cf"))
    return _WORD.findall(text.casefold())


def squeeze(text: str) -> str:
    """The letters and digits of a text, nothing between them."""
    return "".join(words(text))


def pieces(source: str) -> list[str]:
    """The constants of a Python source in its order, numbers as one text; none where it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # the static policy says so
        return []
    found = _Constants()
    found.visit(tree)
    return [*found.texts, " ".join(found.numbers)]


class _Constants(ast.NodeVisitor):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.numbers: list[str] = []

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, bytes):
            self.texts.append(value.decode("latin-1"))
        elif isinstance(value, int):
            self.numbers.append(str(int(value)))


def leaves(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys and numbers too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from leaves(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        numbers = [str(item) for item in value if isinstance(item, int)]
        if numbers:
            yield " ".join(numbers)
        for item in value:
            yield from leaves(item)


def readings(texts: Sequence[str]) -> list[str]:
    """Every reading of the texts, one by one, and joined in order and backwards.

    Raises:
        TooMuch: there is more to read than `MOST`.
    """
    layer = [*texts, "".join(texts), "".join(reversed(texts))]
    seen: dict[str, None] = {}
    size = 0
    for depth in range(LAYERS + 1):
        deeper: list[str] = []
        for text in layer:
            if text in seen or not text:
                continue
            turned = (text[::-1], codecs.encode(text, "rot13"), codecs.encode(text[::-1], "rot13"))
            seen.update(dict.fromkeys((text, *turned)))
            size += 4 * len(text)
            if size > MOST:
                raise TooMuch(f"it hides more than {MOST} characters of encoded text")
            if depth < LAYERS:
                for face in (text, *turned):
                    deeper += (found for decode in _DECODERS for found in decode(face))
        layer = deeper
    return list(seen)


def opaque(text: str) -> bool:
    """Whether a text holds long data that nobody can read: one unbroken run, or a list of numbers."""
    runs = (run for run in _BLOB.findall(text) if any(map(str.isdigit, run)) and any(map(str.isalpha, run)))
    return any(True for _ in runs) or _NUMBERS.search(text) is not None


def _base64(text: str) -> Iterator[str]:
    for run in _BASE64.findall(text):
        plain = run.replace("-", "+").replace("_", "/")
        for skip in range(4):
            part = plain[skip:]
            yield from _text(_bytes(base64.b64decode, part[: len(part) - (len(part) % 4 == 1)], 4))


def _base32(text: str) -> Iterator[str]:
    for run in _BASE32.findall(text):
        yield from _text(_bytes(base64.b32decode, run, 8))


def _hex(text: str) -> Iterator[str]:
    for run in _HEX.findall(text):
        digits = re.sub(r"0x|\\x|[^0-9a-fA-F]", "", run)
        yield from _text(_bytes(binascii.unhexlify, digits, 2))


def _codes(text: str) -> Iterator[str]:
    for run in _CODES.findall(text):
        numbers = [int(n) for n in _NUMBER.findall(run)]
        yield "".join(chr(n) for n in numbers if 32 <= n < 127)


def _escapes(text: str) -> Iterator[str]:
    if "%" in text:
        yield unquote(text)
    if "&" in text:
        yield html.unescape(text)
    if "\\" in text:
        yield re.sub(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))", lambda m: chr(int(m[1] or m[2], 16)), text)


_DECODERS: tuple[Callable[[str], Iterator[str]], ...] = (_base64, _base32, _hex, _codes, _escapes)


def _bytes(decode: Callable[[str], bytes], text: str, block: int) -> bytes:
    try:
        return decode(text + "=" * (-len(text) % block)) if block != 2 else decode(text[: len(text) // 2 * 2])
    except (binascii.Error, ValueError):  # it was no such encoding
        return b""


def _text(data: bytes) -> Iterator[str]:
    """What the bytes say, if they say something."""
    for unpack in (bytes, _inflate):
        try:
            said = unpack(data).decode()
        except (UnicodeDecodeError, zlib.error):  # data, or text of another kind
            continue
        if len(said) >= 4 and sum(map(str.isprintable, said)) >= 0.9 * len(said):
            yield said


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, 1 << 20)
