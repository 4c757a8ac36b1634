"""What a config chooses by a name or by a function: one file a table, or several that go together.

data, model, task (with loss and metrics), augmenting, optimizer: from a table of the config to what
it names. ours: what they share, a thing of ours by its name with options that are checked.
"""

from funcnn.chosen.augmenting import chosen_augmenting
from funcnn.chosen.data import chosen_data, located
from funcnn.chosen.model import chosen_model
from funcnn.chosen.optimizer import chosen_optimizer, other_rates
from funcnn.chosen.task import chosen_losses, chosen_metrics, chosen_task

__all__ = [
    "chosen_augmenting",
    "chosen_data",
    "chosen_losses",
    "chosen_metrics",
    "chosen_model",
    "chosen_optimizer",
    "chosen_task",
    "located",
    "other_rates",
]
