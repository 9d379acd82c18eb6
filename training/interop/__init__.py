"""Other libraries beside us: algorithms of Stable-Baselines3 on our environments and runs."""
