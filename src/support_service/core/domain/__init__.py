"""Facts about the domain that several layers need: principals, case vocabulary, upstream services, references."""
