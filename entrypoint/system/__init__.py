"""What touches the world outside the process: one module for each outside thing."""
