"""First-stage candidates: fusion of their scores with a reranker's."""
