"""The OpenAI-compatible face: JSON and server-sent events over the same ``Gateway`` as gRPC. See ``docs/http.md``."""
