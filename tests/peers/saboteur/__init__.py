"""What `tests.chaos.saboteur` is to the product: jobs to count, and faults at the same points."""
