"""`python -m tests.peers.chancy.declare 2 eager`: so many jobs at a time for each worker; eager polling or not."""

import sys

from chancy import Queue

from tests.peers.chancy.worker import chancy_app

concurrency, polling = sys.argv[1:]
with chancy_app:
    queue = Queue("default", concurrency=int(concurrency), eager_polling=polling == "eager")
    chancy_app.sync_declare(queue, upsert=True)
