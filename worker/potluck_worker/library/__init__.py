"""Finding, fetching, understanding and choosing models."""
