"""A shop as one would write it by the guides of Django and Celery: orders over REST, billed in the background."""
