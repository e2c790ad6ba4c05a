"""The HTTP contract: schemas, problems, routes, and the ASGI layers around BentoML."""
