"""The outside: xenstore and the hypervisor of the real host, behind what ports.py asks for.

xenstore.py is the one, hypercall.py the other. Of the rest they know the values and the ports.
"""
