"""The only part with side effects of its own: plan, apply, store, jobs and the command line."""
