"""One transformer over token trees, with a block KV cache, for drafters and verifiers alike (DESIGN §1.4)."""
