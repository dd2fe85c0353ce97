#!/usr/bin/env python3
"""Train SPADE: `python train.py --preset sample`; the same command resumes. All options: `--help`.

Exit status: 0 when the run is complete, 130 when a signal stopped it (everything is saved), 2 after a mistake in
options, files or data, or a loss that is no finite number, 75 when another process of the run was lost.
"""

from model.command_line import parse_train
from model.errors import run_cli


def main(argv=None) -> int:
    """Train as the command line says."""
    opt = parse_train(argv)

    from model.run import Session  # here, so that --help and mistakes need not wait for Paddle

    with Session(opt) as run, run.stop:
        if run.is_complete:
            run.say(
                f"nothing left to train: step {run.trainer.steps}, epoch {run.epoch - 1} of {opt.total_epochs}; "
                "raise --niter or --max_steps to go on, or give --fresh to start anew"
            )
            return 0
        while not run.is_complete and not run.stopped:
            run.trainer.set_epoch(run.epoch)
            for batch, waited in run.batches():
                run.step(batch, waited)
                last = run.is_complete or run.stopped
                if opt.display_freq and (run.epoch_ended or last or run.trainer.steps % opt.display_freq == 0):
                    run.preview()
                if run.epoch_ended and opt.val_every and run.finished_epoch % opt.val_every == 0:
                    run.validate()
                if run.save_is_due():
                    run.save()
                if last:
                    break
        run.finish()
    return 130 if run.stopped else 0


if __name__ == "__main__":
    run_cli(main)
