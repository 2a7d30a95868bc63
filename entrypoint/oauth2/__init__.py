"""OAuth 2.0: how an access token is asked for, what the answers mean, and how tokens are kept."""
