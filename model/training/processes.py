"""The processes of one run, which take the same steps, stop after the same one and end with the same message."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
from collections.abc import Sequence

import paddle

from model.errors import UserError
from model.ops import group
from model.options import OPT

# Options that the machines of a run may differ in: where things lie, and how they are read.
_OWN = "preset name dataroot label_dir image_dir instance_dir vgg_path nThreads output log_dir".split()


class Stop:
    """Turns SIGINT and SIGTERM into a note, so that the step is finished; a second signal ends the program at once.

    Not under paddle.distributed.launch, which sends its processes SIGTERM three times and kills them after 30 seconds.
    """

    def __init__(self):
        self.name = ""
        self._before = {}

    def _note(self, number, _frame):
        self.name = signal.Signals(number).name
        self.__exit__()

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        if "PADDLE_TRAINER_ID" not in os.environ:
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: Paddle's own, in C


class Processes:
    """All processes of a run, this one among them.

    Attributes:
        rank: number of this process, 0 for the one that reads and writes the run's files.
        world: how many there are.
        stop: notes a signal to this process, within its `with` block.
        stopped: the signal that ends the run early, to whichever process it came; empty as long as there is none.
    """

    def __init__(self, device: str):
        group.join(device)
        self.rank, self.world = group.rank(), group.world()
        self.stop, self.stopped = Stop(), ""

    @contextlib.contextmanager
    def together(self, wait=None):
        """What each process does for itself: the first error of any is raised in all, and a signal to any is noted.

        Args:
            wait: "first" where process 0 may work for more than 30 seconds, "all" where any may.
        """
        own = None
        try:
            yield
        except (UserError, OSError) as error:
            if self.world == 1 or isinstance(error, group.LostError):
                raise
            own = error
        if wait:
            group.wait(everyone=wait == "all")
        message = str(own) if own else ""
        for rank, text in enumerate(group.texts(f"{self.stop.name}\n{message}" if self.stop.name or own else "")):
            signal_name, _, message = text.partition("\n")
            self.stopped = self.stopped or signal_name
            if message:
                raise UserError(f"process {rank}: {message}") from own

    def agree(self, opt: OPT, names: Sequence[str]) -> None:
        """See that all machines were given the same command and the same pictures.

        Args:
            opt: the options.
            names: of the training pictures.

        Raises:
            UserError: a process has others; names what differs.
        """
        if self.world == 1:
            return
        own = {name: value for name, value in dataclasses.asdict(opt).items() if name not in _OWN}
        digest = hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()
        own["training pictures"] = f"{len(names)} ({digest[:8]})"
        own["Paddle"] = paddle.__version__
        first, *others = [json.loads(text) for text in group.texts(json.dumps(own))]
        for rank, other in enumerate(others, 1):
            different = [f"{key} {other[key]}, not {value}" for key, value in first.items() if value != other[key]]
            if different:
                raise UserError(
                    f"process {rank} differs from process 0: {'; '.join(different)}: "
                    "give every machine the same command and the same data"
                )
