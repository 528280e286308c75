"""Scripts that do much at random and count what went wrong, and tests that run them for a short while."""
