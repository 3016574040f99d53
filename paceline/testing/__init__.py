"""The fault kit: what breaks fleets on purpose, for tests and for benchmarks of surviving."""
