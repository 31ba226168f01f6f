"""Whether the HTTP API and all that speaks to it have the same endpoints, parameters, fields and errors."""
