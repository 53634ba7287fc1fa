"""Models of what clients send and get, besides the models of the cases. The client of the API shares them; no I/O."""
