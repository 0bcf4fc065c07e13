"""Which sessions no longer count, although their tokens would verify for a while yet."""
