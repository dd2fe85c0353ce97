"""Threads and products of Paddle: as this project sets them, whatever came first."""

import os
import subprocess
import sys

import pytest

import model

AMD = (
    "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel name\t: AMD EPYC\nflags\t\t: sse2 fma avx2\n\nprocessor\t: 1\n"
)
AVX512 = AMD.replace(" avx2", " avx2 avx512f avx512dq avx512cd avx512bw avx512vl")


@pytest.mark.parametrize(
    ("cpuinfo", "code"),
    [
        (AMD, "5"),
        (AMD.replace("AuthenticAMD", "HygonGenuine"), "5"),
        (AMD.replace(" avx2", ""), None),
        (AMD.replace("AuthenticAMD", "GenuineIntel"), None),
        (AVX512, "5"),
        (AVX512.replace(": 25", ": 26"), "7"),
        (AMD.replace(": 25", ": 26"), "5"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", None),
        ("", None),
    ],
)
def test_the_products_code_is_known_by_maker_and_instructions(cpuinfo, code):
    assert model.mkl_code(cpuinfo) == code


REPORT = """
import os, model, model.ops.cpu, threadpoolctl
omp = [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if "iomp" in lib["filepath"]]
print(model.THREADS, omp[0] if omp else model.THREADS)
print(os.environ.get("OMP_NUM_THREADS"), os.environ.get("MKL_DEBUG_CPU_TYPE"))
"""


def report(begin="", **changes):
    """Threads of ours and of Paddle's library, the two variables afterwards, and what was printed to stderr."""
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")} | changes
    done = subprocess.run([sys.executable, "-c", begin + REPORT], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    ours, paddles, variable, mkl = done.stdout.split()
    return int(ours), int(paddles), variable, mkl, done.stderr


FIRST = "import zlib, paddle\n"
COMPUTED = FIRST + "paddle.matmul(paddle.rand([64, 64]), paddle.rand([64, 64]))\n"


@pytest.mark.parametrize("begin", ["", FIRST, COMPUTED], ids=["model first", "Paddle first", "Paddle computed"])
def test_all_cores_are_used_without_a_word_of_paddles(begin):
    ours, paddles, variable, mkl, stderr = report(begin)
    assert (ours, paddles, variable) == (model.CORES, model.CORES, "None")  # child processes decide for themselves
    assert "OMP_NUM_THREADS" not in stderr
    assert mkl == str(model.MKL_CODE)
    slow = bool(model.MKL_CODE) and begin == COMPUTED
    assert stderr.count("import model first") == slow


def test_what_the_user_set_is_kept():
    ours, paddles, variable, mkl, _ = report(OMP_NUM_THREADS="1", MKL_DEBUG_CPU_TYPE="4")
    assert (ours, paddles, variable, mkl) == (1, 1, "1", "4")


def test_the_launchers_single_thread_is_not_taken_for_the_users():
    launched = {"PADDLE_TRAINER_ID": "0", "PADDLE_LOCAL_SIZE": "1", "OMP_NUM_THREADS": "1"}
    ours, paddles, *_ = report(**launched)
    assert (ours, paddles) == (model.CORES, model.CORES)
