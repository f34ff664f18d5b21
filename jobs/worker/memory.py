"""What a worker's children share with its main process."""

import gc
from typing import Any


def keep_shared(**kwargs: Any) -> None:
    """Before a child is forked: leave all that is loaded out of its collections of garbage.

    One that looks at an object writes to it, and the system then copies the memory around it for that child.
    """
    gc.collect()
    gc.freeze()
