"""Small environments of our own, with known optima: for tests, examples and diagnosis."""
