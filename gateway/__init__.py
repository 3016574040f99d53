"""The face: takes prompts, opens sessions, attaches drafters, streams text."""
