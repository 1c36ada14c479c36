"""The wall around evolved code: one Protocol, four backends, and a doctor that tries what they promise.

``python -m harnessx.sandbox doctor`` prints what is enforced on this machine.
"""

from harnessx.sandbox.base import INSTALL, Sandbox, Wall
from harnessx.sandbox.choose import BACKENDS, backend, strongest

__all__ = ["BACKENDS", "INSTALL", "Sandbox", "Wall", "backend", "strongest"]
