"""A run: the folder that a training leaves behind, and what can be had from it.

folder: what lies in it, the first file to read; lock: one process in it. training: what a config
chooses of a run beside its model: hooks, early stopping, the best checkpoint, writers of metrics.
speed: how much there is in a step of it. start: the params that a new run starts from. restored:
experiment and state of a run, to go on or to evaluate. loaded: its model alone, without its data
and its optimizer, `fnn.load_run`.
"""
