"""A Django app that the product's processes get for chaos: jobs to count, and faults at exact points."""
