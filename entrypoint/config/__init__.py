"""What the user asked for: names, values and the rules between them. Pure, but for `environment.read_settings`."""
