"""Exports that models are trained on."""
