"""Whether the relay works, and whether it is ready: for HEALTHCHECK, probes, metrics and people."""
