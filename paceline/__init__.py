"""Paceline: speculative decoding across unequal machines."""

__version__ = "0.1.0"
