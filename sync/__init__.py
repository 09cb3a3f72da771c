"""The only part with side effects of its own: plans, delivers, stores, and runs all of it as jobs and commands."""
