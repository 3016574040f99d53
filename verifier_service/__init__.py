"""The target: sessions, merged draft trees, and the step loop that checks them."""
