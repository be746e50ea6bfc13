"""The outside: xenstore and the hypervisor of the real host, behind what ports.py asks for.

xenstore.py is the one, hypercall.py the other; neither knows the rest of the package.
"""
