"""PostgreSQL's entry in the registry of engines: importing this registers it."""
