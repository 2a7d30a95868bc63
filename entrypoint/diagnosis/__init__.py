"""Where on the way to the upstream mail would stop, what that means, and which setting to change."""
