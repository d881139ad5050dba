"""The one engine that trains every method."""
