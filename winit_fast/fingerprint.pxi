# The sum of the fingerprints of pages: include/fingerprint.h has the arithmetic, crew.pxi the threads.

cdef extern from "fingerprint.h" nogil:
    enum:
        PAGE_BYTES
        KEYS_APART
    void fingerprint_pages(const char* bytes, int64_t pages, uint64_t first_page, const char* keys, uint32_t* words)


cdef void fingerprint_share(crew_t* crew, int64_t first, int64_t last, char* buffer) noexcept nogil:
    cdef uint32_t words[4]
    cdef int i
    memset(words, 0, sizeof(words))
    fingerprint_pages(
        crew.bytes + first * PAGE_BYTES, last - first, crew.first_page + <uint64_t> first, crew.keys, words)
    for i in range(4):
        crew_add(&crew.words[i], <int32_t> words[i])


def fingerprint_together(
    cnp.ndarray octets not None, uint64_t first_page, cnp.ndarray keys not None, int64_t share, int32_t threads,
    look not None, int64_t look_after=1,
) -> tuple:
    """The four words of whole pages, summed up with several threads.

    Parameters
    ----------
    octets : ndarray of uint8
        Contiguous; bytes beyond the last whole page are left out.
    first_page : int
        The number of the first page.
    keys : ndarray of uint32
        Contiguous, 1024 + 16 words.
    share, threads, look, look_after
        As in `fill_together`.
    """
    cdef crew_t* crew
    if not (cnp.PyArray_IS_C_CONTIGUOUS(octets) and cnp.PyArray_ITEMSIZE(octets) == 1
            and cnp.PyArray_IS_C_CONTIGUOUS(keys) and cnp.PyArray_NBYTES(keys) >= PAGE_BYTES + KEYS_APART):
        raise ValueError("octets must be contiguous bytes, and keys those of a page and more")
    if cnp.PyArray_SIZE(octets) < PAGE_BYTES:
        return 0, 0, 0, 0
    crew = <crew_t*> calloc(1, sizeof(crew_t))
    if crew == NULL:
        raise MemoryError("no memory for the threads of a fingerprint")
    try:
        crew.do_share = fingerprint_share
        crew.units = cnp.PyArray_SIZE(octets) // PAGE_BYTES
        crew.bytes = <const char*> cnp.PyArray_DATA(octets)
        crew.keys = <const char*> cnp.PyArray_DATA(keys)
        crew.first_page = first_page
        if not work_together(crew, share, threads, look, look_after):
            raise RuntimeError(
                "threads that shared this work are gone, as after a fork in its middle (os.fork in a signal handler?): "
                "the fingerprint is not whole; call it again")
        return (
            <uint32_t> crew.words[0], <uint32_t> crew.words[1], <uint32_t> crew.words[2], <uint32_t> crew.words[3])
    finally:
        free_crew(crew)
