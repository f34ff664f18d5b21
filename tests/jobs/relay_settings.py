"""The product's settings, and in RELAY_SETTINGS, a JSON object, some that are out of the environment's bounds."""

import json
import os

from config.settings import *  # noqa: F403

vars().update(json.loads(os.environ["RELAY_SETTINGS"]))
