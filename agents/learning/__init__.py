"""How weights change: returns, losses, the optimizer, and how an update is executed."""
