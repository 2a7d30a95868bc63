"""Says whether a login of a client is good, and slows down who guesses: each part has its own module."""
