"""What must be on disk: every file with its text and mode, computed from the settings and a few facts. Pure."""
