"""Language models: finding their weights, loading them, and giving them a memory."""
