"""What acts: actor-critic and action values, with their observation statistics."""
