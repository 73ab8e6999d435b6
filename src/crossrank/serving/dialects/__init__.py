"""One file a dialect: what its requests mean, and how its answers and its errors look. Nothing here does I/O."""
