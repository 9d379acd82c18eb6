"""Environments that are stepped in processes: `env.vectorization=async`."""
