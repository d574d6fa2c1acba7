"""A sample of many cases in which nothing that two arguments do to each other is left out."""

from heapq import heapify, heappop, heapreplace
from itertools import combinations


def cover(cases, strength=2):
    """Numbers of a few of the cases, arguments by name, among which are all pairs of values that the cases have.

    Each is the one with the most pairs that the ones before it do not have. With a strength of 1, all values; of 3, all
    triples.
    """
    groups = [set(combinations(sorted(case.items()), min(strength, len(case)))) for case in cases]
    missing = set().union(*groups)
    # How many a case adds only falls, so that what still adds as many as another did before is the best.
    heap = [(-len(own), number) for number, own in enumerate(groups)]
    heapify(heap)
    chosen = set()
    while missing:
        _, number = heap[0]
        now = -len(groups[number] & missing), number
        if now <= min(heap[1:3], default=now):
            heappop(heap)
            chosen.add(number)
            missing -= groups[number]
        else:
            heapreplace(heap, now)
    return chosen
