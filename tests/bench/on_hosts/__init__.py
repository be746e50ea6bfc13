"""The benchmark in the dom0 of real Xen hosts of many sizes, beside a libvirtd: `make bench`.

Reading order: __main__.py (boots the hosts), overlay.py (what they have beside the daily ones),
in_dom0.py (runs there), libvirtd.py, results.py (from JSON to RESULTS.md and pictures).
"""
