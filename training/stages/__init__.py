"""Language modelling with memory: a bank for every batch row, written and read while the text goes by."""
