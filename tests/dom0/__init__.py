"""What runs inside dom0 of a real Xen host; `tests/xenhost` boots it and brings this there."""
