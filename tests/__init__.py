"""The tests of authrelay."""
