"""The outside: xenstore and the hypervisor of a real host, as ports.py describes them.

Two ways to read. To xenstore.py: _pyxs.py (connections), packets.py (bytes), watches.py (events),
polling.py, line.py (the loop). To hypercall.py: _privcmd.py (devices and memory), layouts.py (what
the bytes mean), calls.py, probe.py (which Xen it is), listing.py (rows). Nothing here imports more
of the package than values, errors, ports and forking.
"""
