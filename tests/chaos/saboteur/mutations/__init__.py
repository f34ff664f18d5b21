"""Ways to break the product, for chaos to find: CHAOS_MUTANT names one, and the processes start with it.

Each takes a clause out of a statement, or a step out of its place. A mutation that finds nothing to change raises.
"""

from tests.chaos.saboteur.mutations import claims, endings, line, receiving, schedules, sending, sessions
from tests.chaos.saboteur.mutations.ways import MUTATIONS

__all__ = ["MUTATIONS", "claims", "endings", "line", "receiving", "schedules", "sending", "sessions"]
