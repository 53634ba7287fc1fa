"""What the service says about itself: instruments, their labels, the provider behind them, requests and logs."""
