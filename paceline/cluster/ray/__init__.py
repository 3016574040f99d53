"""A fleet on a Ray cluster: Ray places, watches and restarts workers, which talk to each other directly."""
