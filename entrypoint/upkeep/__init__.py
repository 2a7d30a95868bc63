"""What a running relay needs from time to time: when that is, what was found, and what has been said of it already."""
