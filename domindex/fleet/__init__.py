"""Many hosts, one picture: which domain runs on which host."""
