"""What tells the world over HTTP how the relay is: metrics, health, and a page for people. Nothing can be changed."""
