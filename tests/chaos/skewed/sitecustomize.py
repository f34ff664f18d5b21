"""A clock that is wrong by CHAOS_SKEW seconds, for a process with this folder in its PYTHONPATH."""

import os
import time

_right = time.time
_skew = float(os.environ.get("CHAOS_SKEW", "0"))
time.time = lambda: _right() + _skew
