"""What off-policy agents remember, and how they draw from it."""
