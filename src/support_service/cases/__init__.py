"""Cases and their conversations: models, SQL store, access policy, and the service that changes cases."""
