"""Copies of the metrics for Weights & Biases."""
