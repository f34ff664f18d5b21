"""procrastinate, as its guide for Django sets it up, with its periodic task that retries stalled jobs."""
