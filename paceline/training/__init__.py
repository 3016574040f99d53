"""Trains the embedded target/draft pair on the source of the installed Python standard library."""
