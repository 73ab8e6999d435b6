"""Records to tokens: the prompt, the pair encoding, windows over long documents, and the only collation."""
