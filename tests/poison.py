"""What somebody may write into Redis who can write there and nowhere else."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from django.conf import settings


class Bomb:
    """Pickled, it makes a folder wherever it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def bomb(folder: Path) -> bytes:
    """A pickle that makes this folder when it is read."""
    return pickle.dumps(Bomb(folder))


def server() -> redis.Redis:
    """That of the caches, which is the broker's too."""
    return redis.Redis.from_url(settings.CACHE_URL)


#: Each puts something into a key; a pickle makes the folder when it is read.
PLANTS: dict[str, Callable[[str, Path], Any]] = {
    "a pickle": lambda key, folder: server().set(key, bomb(folder)),
    "text": lambda key, folder: server().set(key, "x"),
    "half a value": lambda key, folder: server().set(key, '{"a": '),
    "no UTF-8": lambda key, folder: server().set(key, b"\xff\xfe\xfd"),
    "what is too deep": lambda key, folder: server().set(key, "[" * 200_000),
    "a number that is too long": lambda key, folder: server().set(key, "9" * 5000),
    "a list": lambda key, folder: server().rpush(key, "x"),
    "a hash": lambda key, folder: server().hset(key, "x", "y"),
}
