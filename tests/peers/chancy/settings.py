from tests.peers.postgresql import *  # noqa: F403
