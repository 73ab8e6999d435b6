"""The `crossrank` command: one file a command; parse, wire, call, print."""
