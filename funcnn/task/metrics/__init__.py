"""Metrics by name: each is a function of its file's name that returns a `Metric`.

What it takes are its options in a config. `ignored` is the label that does not count, and is the
task's own where the config does not say. Whoever adds one adds a file here. Of labels: accuracy,
top_k, f1, auc; of tokens also perplexity and bits_per_character; of numbers: mse, mae, r2.
"""
