"""What tests of containers need: the engine, the peers, the relay from outside, certificates, waiting."""
