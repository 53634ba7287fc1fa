"""Who gets in when many come: addresses, rates, and how much work there may be at a time."""
