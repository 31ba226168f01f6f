"""Check that the HTTP API and its clients have the same endpoints, parameters, fields and errors."""
