"""Short trainings: batches as the loader makes them, steps on them, and what a checkpoint would hold of it."""

from reference_cases import training_batch

from model.semantics import pattern_arrays
from model.trainer import Trainer


def batches(opt, count, size=2):
    """Batches as the loader makes them, with the neighbourhoods of their maps."""
    found = (training_batch(i, opt, size) for i in range(count))
    return [{**batch, **pattern_arrays(batch["label"], batch["instance"], opt)} for batch in found]


def run(opt, steps=2, vgg=None, size=2):
    trainer = Trainer(opt, vgg, lambda: batches(opt, 2))
    return trainer, [trainer.step(batch) for batch in batches(opt, steps, size)]


def arrays_of(trainer):
    """{network: {name: array}} of what a checkpoint holds."""
    nets = trainer.saved_networks().items()
    return {name: {key: v.numpy().copy() for key, v in net.state_dict().items()} for name, net in nets}
