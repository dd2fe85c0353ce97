"""Worker processes end with the main process, however that ends."""

import os
import signal
from pathlib import Path

import pytest
from common import gone, started
from test_data import write_set

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
from model.data.workers import in_order

def work(item):
    os.write(1, b"%d\\n" % os.getpid())  # whole: both workers write here
    time.sleep(60)

if __name__ == "__main__":
    list(in_order(work, "ab", 2))
"""
LOADER = """
import multiprocessing, os, signal, sys, time
from model.data.loader import make_loader
from model.options import OPT
import paddle  # takes SIGTERM for itself, so the handlers come after it
if __name__ == "__main__":
    opt = OPT(dataroot=sys.argv[1], crop_size=64, load_size=72, batchSize=2, modulation="dense", nThreads=2)
    stop = []
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, lambda n, frame: stop.append(n))
    steps = 0
    loader = make_loader(opt, "train")
    while not stop or steps < 12:
        for batch in loader:
            steps += 1
            if steps == 2:
                print(*(p.pid for p in multiprocessing.active_children()), flush=True)
            if steps > 2:
                time.sleep(0.05)
    print("finished", flush=True)
"""


def start(tmp_path, script):
    """Start a script with tmp_path as its word; the process, and the numbers of its workers, which it tells."""
    (tmp_path / "script.py").write_text(script)
    process = started(tmp_path / "script.py", tmp_path)
    return process, [int(pid) for pid in process.stdout.readline().split()]


@pytest.mark.parametrize("script", [POOL, IN_ORDER, LOADER], ids=["pool", "in_order", "loader"])
def test_no_worker_and_no_shared_memory_outlive_kill_9(tmp_path, script):
    write_set(tmp_path, 4)
    process, workers = start(tmp_path, script)
    os.kill(workers[0], signal.SIGINT)  # ignored
    process.kill()
    process.communicate(timeout=10)
    assert gone(*workers)
    assert not [path for pid in workers for path in Path("/dev/shm").glob(f"paddle_{pid}_*")]
    assert (tmp_path / "last").exists() == (script == POOL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_group_leave_the_workers_to_the_main_process(tmp_path, number):
    write_set(tmp_path, 4)
    process, workers = start(tmp_path, LOADER)
    assert len(workers) == 2
    os.killpg(process.pid, number)
    rest, _ = process.communicate(timeout=60)
    assert "finished" in rest and process.returncode == 0
    assert gone(*workers)
