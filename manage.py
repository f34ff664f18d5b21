#!/usr/bin/env python
import os
import sys

from django.core.management import execute_from_command_line

from environment import Misconfigured
from tenants.binding import bind_to_public

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        bind_to_public()
        execute_from_command_line(sys.argv)
    except Misconfigured as error:
        sys.exit(f"{error}")
