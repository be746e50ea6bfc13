"""Mailboxes, listeners, waits: each by itself, without an index."""
