"""The app with the work that is measured: installed, as it is, in every system."""
