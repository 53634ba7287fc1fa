"""Service levels: policies with targets and calendars, and the clocks that measure cases against them."""
