"""The command ``paceline``."""
