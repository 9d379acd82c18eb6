"""The output layer for each action space, and the distribution of actions that it gives."""
