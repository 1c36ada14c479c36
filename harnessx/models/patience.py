"""How long a provider that fails is borne with, and when it is asked again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from harnessx.errors import RemoteFailure
from harnessx.models.base import CallContext

MAX_BYTES = 8 << 20
"""Of one answer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds.

    ``timeout_s`` ends one try; ``patience_s`` bounds all tries of one call and the waits between them. The k-th
    wait lasts ``base_s`` doubled k times, at most ``longest_s``, or what the provider asks for, if that is longer.
    """

    timeout_s: float = 300.0
    patience_s: float = 600.0
    base_s: float = 0.2
    longest_s: float = 30.0

    def wait(self, failure: RemoteFailure, tries: int, context: CallContext) -> float:
        """Seconds until the next try after ``tries`` that failed. Equal calls wait equally long; others apart.

        What a provider asks for is never undercut: jitter is added to it, and taken off our own guess.
        """
        origin = (context.seed, context.task_id, context.attempt, context.path, context.n, tries)
        jitter = random.Random("/".join(map(str, origin))).random()
        guess = min(self.longest_s, self.base_s * 2.0 ** min(tries - 1, 64)) * (1 - jitter / 2)
        asked = failure.retry_after
        return guess if asked is None else max(guess, asked + jitter * min(1.0, asked / 4))
