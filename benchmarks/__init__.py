"""What a request costs here, as a multiple of the least that a server on the same routes could cost."""
