"""What stands between an environment and what the agent sees and does."""
