"""What every package shares: rollouts, trees, what acts, errors, classes found by their file."""
