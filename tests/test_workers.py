"""Worker processes end with the main process, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")

POOL = """
import os, pathlib, sys, time
from concurrent.futures import ProcessPoolExecutor
from model.data.workers import begin_worker
if __name__ == "__main__":
    last = pathlib.Path(sys.argv[1], "last").touch
    with ProcessPoolExecutor(1, initializer=begin_worker, initargs=(os.getpid(), last)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""
CHECK = """
import os, pathlib, sys, time
from model.prepare import check
from model.data.listing import Item
from model.options import OPT

def examine(item, opt, palette):
    os.write(1, b"%d\\n" % os.getpid())  # whole: both workers write here
    time.sleep(60)

if __name__ == "__main__":
    check.examine = examine
    items = [Item(name, name, None, None) for name in "ab"]
    list(check._records(items, OPT(), None, 2))
"""


def start(script, folder):
    """The main process that a script is, and the number of a worker of it."""
    (folder / "script.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(folder / "script.py"), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    return process, int(process.stdout.readline())


def gone(pid, seconds=8):
    end = time.monotonic() + seconds
    while time.monotonic() < end and Path(f"/proc/{pid}").exists():
        time.sleep(0.1)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("script", [POOL, CHECK], ids=["pool", "check_dataset"])
def test_no_worker_outlives_kill_9(tmp_path, script):
    process, worker = start(script, tmp_path)
    os.kill(worker, signal.SIGINT)  # ignored
    process.kill()
    process.communicate(timeout=10)
    assert gone(worker)
    assert (tmp_path / "last").exists() == (script == POOL)
