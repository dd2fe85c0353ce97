#!/usr/bin/env python3
"""Open the painting page: `python app.py`, then http://127.0.0.1:7860 in a browser. All options: `--help`.

Ctrl-C or SIGTERM ends it. Exit status: 0, or 2 after a mistake in options or files.
"""

import argparse
import gc
import logging
import signal
from pathlib import Path

from model.errors import UserError, run_cli, tell
from model.ops import ahead
from model.serving import is_exported

TRAINED = Path("output/model")
SAMPLE = Path(__file__).parent / "model" / "serving" / "assets" / "sample"


def find_model(given: str | None) -> Path:
    """The model that was asked for, else the last trained one, else the small one that ships with the project.

    Raises:
        UserError: None was asked for and there is none.
    """
    if given:
        return Path(given)
    if (TRAINED / "n_g.pdparams").exists():
        return TRAINED
    if SAMPLE.exists():
        return SAMPLE
    raise UserError(f"no model in {TRAINED}: train one (python train.py --preset sample) or give --checkpoint")


def main(argv: list[str] | None = None) -> int:
    """Load the model and serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Open the painting page of a trained model.")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="folder of checkpoints, one checkpoint, a generator's .pdparams file or an exported folder (default: "
        "output/model where something was trained, else the sample model that ships with the project)",
    )
    parser.add_argument("--which_epoch", default="latest", help="latest, best or an epoch's number (default: latest)")
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default: auto)")
    parser.add_argument("--host", help="address to serve on; 0.0.0.0 for other machines (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    options = parser.parse_args(argv)
    path = find_model(options.checkpoint)

    if not is_exported(path):
        ahead.start(options.device)
    gc.disable()  # what imports make stays, and looking for garbage among it took a fifth of their time
    try:
        try:
            from model.serving.page import build_page, launch_page  # here, so that --help need not wait for Paddle
        except ModuleNotFoundError as error:
            raise UserError(f"{error.name} is not installed: pip install -r requirements-app.txt") from None
        from model.serving.painting import Studio
        from model.serving.synthesizer import Synthesizer

        synthesizer = Synthesizer.load(path, which=options.which_epoch, device=options.device)
    finally:
        gc.enable()
    tell(f"model      {synthesizer.info['file']}, {synthesizer.info['device']}")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # with which Gradio asks itself whether it is there
    studio = Studio(synthesizer)
    page = build_page(studio)
    url = launch_page(page, options.host, options.port, prevent_thread_lock=True)
    print(f"page       {url}  (Ctrl-C ends it)", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Paddle's own answer is a stack trace
    ahead.finish()  # while a browser loads the page, as is the next
    studio.describe()
    page.block_thread()
    return 0


if __name__ == "__main__":
    run_cli(main)
