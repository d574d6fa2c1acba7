"""Many threads of Python's that call winit_fast at once, in a process that has called nothing of it yet.

``python tests/many_callers.py 16 1`` prints a digest of what each of 16 callers got, all of them called by 1 thread.
"""

import hashlib
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np

import winit_fast


def digest(*arrays):
    """Of the bytes of arrays."""
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(array.tobytes())
    return found.hexdigest()


def filled(shape, dtype, scheme, **keywords):
    return digest(winit_fast.fill(np.empty(shape, dtype), scheme, seed=5, **keywords))


def rows(verb, shape, scheme, listed, **keywords):
    return digest(verb(np.empty((len(listed), *shape[1:]), "float32"), listed, scheme, seed=5, shape=shape, **keywords))


def many(me):
    """Arrays of every way to fill, each of a shape that no other caller has, and one that all have."""
    outs = [np.empty((4 + me + k, 9), dtype) for k in range(40) for dtype in ("float32", "float16")]
    outs += [np.empty((24, 8), "float64"), np.empty((70, 40 + me), "float32"), np.empty((700, 800), "float32")]
    texts = ["he_normal", "uniform(-1, 1)", "truncated_normal(std=0.02)", "orthogonal", "sparse(0.5)"]
    fills = [{"out": out, "scheme": texts[k % 5], "name": f"{me}.{k}"} for k, out in enumerate(outs)]
    winit_fast.fill_many(fills, seed=5, threads=2)
    return digest(*outs)


def fingerprinted(me):
    from winit_fast.fingerprints import fingerprint

    return fingerprint(np.arange(1 << 20, dtype="int64") + me, threads=3)


def refused(me):
    """The message of an argument that cannot be used."""
    try:
        winit_fast.fill(np.empty(3), f"normla({me})", seed=1)
    except ValueError as error:
        return str(error)


def looked_up(me):
    """What is imported, parsed or made when it is first used."""
    scheme = winit_fast.scheme("normal", std=1 + me / 8)
    verdict = winit_fast.report.propagate(["zeros"], depth=3, width=4).propagations[0].verdict
    described = winit_fast.files.TensorSpec("w", (3, 4), "float32", scheme)
    return f"{scheme!r} {hash(scheme) == hash(winit_fast.scheme(str(scheme)))} {verdict} {described}"


def crowd(me):
    """Schemes, shapes and names beyond what caches hold."""
    outs = [np.empty((k % 7 + 1, 3), "float32") for k in range(300)]
    for k, out in enumerate(outs):
        winit_fast.fill(out, f"normal(std={1 + k / 8})", seed=k, name=f"{k} of {me}")
    return digest(*outs)


JOBS = [
    lambda me: filled((30, 40), "float32", "he_normal", name="same"),
    lambda me: filled((30, 40), ml_dtypes.bfloat16, f"normal(std={1 + me})", name="same"),
    lambda me: filled((30, 40 + me), "float64", "truncated_normal(low=-3, high=1)", name=f"caller {me}"),
    lambda me: filled((3, 4, 5), "complex64", "xavier_normal", name=me),
    lambda me: filled((90, 60 + me), "float32", "orthogonal", name=me),
    lambda me: filled((64, 64), "float32", "orthogonal", name="same", threads=3),
    lambda me: filled((50, 60 + me), "float32", "sparse(0.9)", name=me, threads=2),
    lambda me: filled((4, 4, 2 + me, 3), "float32", "bilinear"),
    lambda me: filled((5, 3), "float32", "array([1, 2, 3])"),
    lambda me: filled((5, 90), "float32", winit_fast.scheme("array", values=np.arange(90) * (1 + me))),
    lambda me: filled((1 << 11, 1 << 10), "float32", "normal", name=me, threads=4),
    lambda me: filled((1 << 11, 1 << 12), ml_dtypes.float8_e5m2, "uniform(0, 4)", name="same", threads=2),
    lambda me: rows(winit_fast.fill_rows, (1000, 33), "he_normal", [me, 7, 999, 7], name="rows"),
    lambda me: rows(winit_fast.fill_keys, (1000, 33), "normal", [me, 1 << 63, -me], name=f"keys {me}"),
    lambda me: digest(winit_fast.random_bits(np.empty(5000, "uint32"), seed=me, offset=2**40 + me)),
    fingerprinted,
    lambda me: repr(winit_fast.recommend("relu")),
    many,
    refused,
    looked_up,
    crowd,
]


def work(me, found, wait):
    """All jobs, each of which all threads begin at the same moment; then again, in an order of each thread's own."""
    for job in JOBS:
        wait()
        found.append(str(job(me)))
    wait()
    for place in range(len(JOBS)):
        number = (place + me) % len(JOBS)
        if str(JOBS[number](me)) != found[number]:
            found.append(f"job {number} of caller {me} is not what it was")


def main(callers, threads):
    sys.setswitchinterval(1e-5)
    warnings.simplefilter("ignore", winit_fast.RepeatedValuesWarning)
    found = [[] for _ in range(callers)]
    barrier = threading.Barrier(threads)

    def run(first):
        try:
            for me in range(first, callers, threads):
                work(me, found[me], barrier.wait)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(threads)))
    for each in found:
        print(*each, sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
