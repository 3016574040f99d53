"""Predictions held against what others have published: fitted on some tasks, scored on the one left out."""
