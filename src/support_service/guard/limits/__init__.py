"""Request limits: client addresses, request rates and overload protection."""
