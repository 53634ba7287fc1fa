"""The stream of changes: follows the published events, and passes each change to the clients that may see it."""
