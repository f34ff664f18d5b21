"""Tenantry as it is shipped, and the app with the work."""
