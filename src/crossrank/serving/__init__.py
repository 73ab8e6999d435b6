"""The HTTP server: dialects of rerank requests, the queue of tokens behind them, and the app around both."""
