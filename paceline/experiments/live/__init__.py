"""Experiments in real time: the services themselves, with emulated forwards on this machine or as a fleet is."""
