"""The HTTP API of an instance: Quart on Trio, behind a guard (`server`)."""
