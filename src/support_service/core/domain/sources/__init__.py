"""The timeline sources: each module declares one as `SOURCE`, and nothing else lists them."""
