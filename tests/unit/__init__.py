"""Tests of the entrypoint without a container, a network or a clock that has to pass."""
