"""django-tasks-db, as its README sets it up."""
