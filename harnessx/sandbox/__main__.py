"""``python -m harnessx.sandbox doctor``: what is enforced on this machine."""

from __future__ import annotations

import sys

from harnessx.sandbox.doctor import main

if __name__ == "__main__":
    if sys.argv[1:] != ["doctor"]:
        sys.exit("usage: python -m harnessx.sandbox doctor")
    sys.exit(main())
