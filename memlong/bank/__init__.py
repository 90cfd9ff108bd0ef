"""The bank: which chunks are held, their K-V, their embeddings, and who leaves when it is full.

Nothing is imported here, so that the ledger and the policies can be used where torch is not.
"""
