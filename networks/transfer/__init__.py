"""From the tensors of one agent to those of another, by their names."""
