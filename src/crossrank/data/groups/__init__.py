"""Training groups: files of every format in, a query with its positives and negatives out."""
