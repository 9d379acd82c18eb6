"""Models of Stable-Baselines3, read without unpickling and written."""
