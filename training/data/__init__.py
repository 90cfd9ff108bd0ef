"""Readers, generators and packers of training and evaluation data."""
