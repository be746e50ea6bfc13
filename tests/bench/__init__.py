"""`domindex bench` on real Xen hosts of many sizes, beside a libvirtd: `make bench`."""
