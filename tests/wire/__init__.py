"""The real pyxs and cffi on a xenstored and a hypervisor that are played by the tests."""
