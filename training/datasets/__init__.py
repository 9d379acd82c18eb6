"""Recorded episodes: written, read, and given to an agent in place of new rollouts."""
