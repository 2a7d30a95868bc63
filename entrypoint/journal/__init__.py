"""What the lines of the log say: from text to fields, to one event for each recipient, to counts. Pure."""
