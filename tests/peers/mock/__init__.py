"""An upstream SMTP server that records exactly what it saw and misbehaves on request."""
