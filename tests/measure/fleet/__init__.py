"""What a fleet costs: its figures (`make figures`) and a large one (`make fleet-scale`).

`canned.py` writes a fleet to an etcd as publishers would have, without a host for each.
"""
