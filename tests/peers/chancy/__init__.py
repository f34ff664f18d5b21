"""Chancy, as its guide for Django sets it up, with the plugins that it enables by itself."""
