#!/usr/bin/env python3
"""Train SPADE: `python train.py --preset sample`; the same command resumes. All options: `--help`.

Exit status: 0 when the run is complete, 130 when a signal stopped it (everything is saved), 2 after a mistake in
options, files or data, or a loss that is no finite number, 75 when another process of the run was lost.
"""

import gc

from model.command_line import parse_train
from model.errors import run_cli
from model.ops import ahead


def main(argv=None) -> int:
    """Train as the command line says."""
    opt = parse_train(argv)
    if opt.kernels != "plain":
        ahead.start(opt.device, training=True)

    from model.run import Session  # here, so that --help and mistakes need not wait for Paddle

    with Session(opt) as run:
        if not run.is_complete:
            ahead.finish()
        gc.freeze()  # what is there stays: looking for garbage among it took 1.5 % of a step
        run.train()
    return 130 if run.stopped else 0


if __name__ == "__main__":
    run_cli(main)
