"""From an old configuration to settings: what is the same, what changes, and what has no equivalent. Pure."""
