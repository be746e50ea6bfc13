"""Real Xen hosts: how they are built, what is run in them, and what is said of it outside."""
