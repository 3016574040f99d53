"""Texts that are held to a grammar: compiled once, followed token by token, enforced by masks."""
