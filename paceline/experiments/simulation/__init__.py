"""Experiments in virtual time: the services' own logic and their rivals, with forwards and wires replaced by tables."""
