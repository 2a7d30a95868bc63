"""The milter that signs mail with DKIM: its protocol, the signature, and the process."""
