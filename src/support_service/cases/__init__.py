"""Cases and their conversations: the model, their store, and the one service that changes them."""
