"""What runs after the start: the supervisor, and what it supervises. Each its own process, each small."""
