"""Cases and their conversations: model, store, policy, and the service that changes them."""
