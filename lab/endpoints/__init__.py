"""Where requests go: settings to an endpoint, an endpoint to a client."""
