"""Codings in which a client accepts a body."""


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip; a coding with q=0 is refused."""
    weights: dict[str, float] = {}
    for part in accept_encoding.split(","):
        coding, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((text for text in parameters if text.startswith("q=")), "q=1")
        try:
            weights[coding] = float(weight[2:])
        except ValueError:
            weights[coding] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0
