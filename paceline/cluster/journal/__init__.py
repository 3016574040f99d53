"""What must outlive a gateway: each session as it was opened, and its text before a client sees it.

A session belongs to whoever holds its ``epoch``. Appending compares epoch and length, taking over moves the epoch on;
so of two gateways that think that a session is theirs one is told that it is not, before its client hears a token.
"""

from paceline.cluster.journal.base import Entry, Journal, JournalAway, Kept, Outcome, Record
from paceline.cluster.journal.memory import MemoryJournal

__all__ = ["Entry", "Journal", "JournalAway", "Kept", "MemoryJournal", "Outcome", "Record"]
