"""Gradient tools: take rules out, check them, compare them with automatic differentiation."""
