"""Topology of a fleet and the ways to start it."""
