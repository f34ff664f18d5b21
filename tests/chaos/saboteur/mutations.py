from collections.abc import Callable

MUTATIONS: dict[str, Callable[[], None]] = {}
