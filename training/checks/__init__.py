"""Checks of an environment: those before a run, and all that `neuraxis check` says."""
