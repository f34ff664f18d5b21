from tests.peers.shop.settings import *  # noqa: F403
from tests.peers.shop.settings import APPS, env

INSTALLED_APPS = APPS

vars().update(env.json("PEER_SETTINGS", default={}))
