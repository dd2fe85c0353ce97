"""Worker processes end with the main process, however that ends."""

import os
import signal
from pathlib import Path

import pytest
from common import gone, started

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
IN_ORDER = """
import os, time
from model.prepare.pool import in_order

def work(item):
    os.write(1, b"%d\\n" % os.getpid())  # whole: both workers write here
    time.sleep(60)

if __name__ == "__main__":
    list(in_order(work, "ab", 2))
"""


@pytest.mark.parametrize("script", [POOL, IN_ORDER], ids=["pool", "in_order"])
def test_no_worker_outlives_kill_9(tmp_path, script):
    (tmp_path / "script.py").write_text(script)
    process = started(tmp_path / "script.py", tmp_path)
    worker = int(process.stdout.readline())
    os.kill(worker, signal.SIGINT)  # ignored
    process.kill()
    process.communicate(timeout=10)
    assert gone(worker)
    assert (tmp_path / "last").exists() == (script == POOL)
