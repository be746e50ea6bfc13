"""What holds on the simulated host and on a real one: the ports' contract, and the scenarios."""
