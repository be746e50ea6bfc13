"""What runs inside dom0 of a real Xen host; `tests/real/build` boots it and brings this there."""
