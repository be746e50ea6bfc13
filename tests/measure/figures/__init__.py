"""What docs/performance.md says of speed and size, measured: `make figures`.

Each figure is a ratio of two things done in turn in one run; never asserted by a clock.
"""
