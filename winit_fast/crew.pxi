# Threads that share units of work: those of plans, and pages of memory (fingerprint.pxi).
#
# (a) Helpers are threads of the system. They hold no Python object and never take the GIL: they take shares from a counter
#     until none is left. So no exception, signal handler or debugger can hit one, and no lock is shared with anybody.
# (b) A thread starts half of the helpers that it stands for, then half of the rest, and each does the same with its own:
#     128 threads are there after seven starts in a row. It waits for all whom it started before it ends itself. So none is
#     left once the caller has waited for his own.
# (c) The caller's thread takes shares like them, and calls `look` now and then: a Python function, in which handlers run.
#     What they raise empties the counter, and comes out once all helpers have finished the share in their hands.
# (d) Where a handler forks, the child has no helpers: it waits for none, and the shares in their hands are missing.
# (e) What helpers read lies in memory that is theirs until the last is out. The caller's stack would not do: an interpreter
#     that shuts down ends the caller's thread, where it is a daemon, without a word to anybody.

cdef extern from "crew.h" nogil:
    ctypedef struct crew_thread:
        pass
    ctypedef int32_t crew_counter
    bint crew_thread_start(crew_thread* thread, void (*begin)(void*) noexcept nogil, void* argument)
    void crew_thread_wait(crew_thread* thread)
    long crew_process()
    int32_t crew_add(crew_counter* counter, int32_t more)
    crew_counter crew_late
    bint crew_is_late()

cdef enum:
    MOST_STARTS = 32       # halves of an int32
    MOST_SHARES = 1 << 29  # so that the counter has room for what takes it to its end, and for each thread's last look

cdef struct helper_t:
    crew_t* crew
    int32_t threads        # that it stands for, itself included
    crew_thread thread

ctypedef void (*do_share_t)(crew_t* crew, int64_t first, int64_t last, char* buffer) noexcept nogil

cdef struct crew_t:
    do_share_t do_share    # these units
    int32_t shares
    int64_t share          # units in each
    int64_t units
    int64_t buffer_size
    const plan_t** plans   # whose units follow each other ...
    int64_t* ends          # ... up to these
    int count
    const char* bytes      # or pages of memory
    const char* keys
    uint64_t first_page
    crew_counter words[4]  # their sum
    crew_counter taken     # shares; beyond `shares`: all
    crew_counter done
    crew_counter refused   # not 0: the system gives no more threads
    helper_t helpers[MOST_STARTS]  # the caller's own


cdef bint take_share(crew_t* crew, char* buffer) noexcept nogil:
    """Take a share and do it; whether there was one."""
    cdef int32_t number
    cdef int64_t first
    if crew_add(&crew.taken, 0) >= crew.shares:
        return False
    number = crew_add(&crew.taken, 1)
    if number >= crew.shares:
        return False
    first = number * crew.share
    crew.do_share(crew, first, min(first + crew.share, crew.units), buffer)
    crew_add(&crew.done, 1)
    return True


cdef void fill_share(crew_t* crew, int64_t first, int64_t last, char* buffer) noexcept nogil:
    cdef int low = 0, high = crew.count, middle
    cdef int64_t begin
    while low < high:  # the first plan that ends after `first`
        middle = (low + high) >> 1
        if crew.ends[middle] <= first:
            low = middle + 1
        else:
            high = middle
    while first < last:
        begin = crew.ends[low - 1] if low else 0
        fill_tiles(crew.plans[low], first - begin, min(last, crew.ends[low]) - begin, buffer)
        first = crew.ends[low]
        low += 1


cdef int start_helpers(crew_t* crew, int32_t threads, helper_t* helpers) noexcept nogil:
    """Start those for whom a thread stands; how many of them are its own to wait for."""
    cdef int started = 0
    while threads > 1 and crew_add(&crew.taken, 0) < crew.shares and not crew_add(&crew.refused, 0):
        helpers[started].crew = crew
        helpers[started].threads = threads >> 1
        if not crew_thread_start(&helpers[started].thread, help_crew, &helpers[started]):
            crew_add(&crew.refused, 1)  # fewer do the same work
            break
        threads -= threads >> 1
        started += 1
    return started


cdef void help_crew(void* argument) noexcept nogil:
    cdef helper_t* me = <helper_t*> argument
    cdef crew_t* crew = me.crew
    cdef helper_t helpers[MOST_STARTS]
    cdef int started = start_helpers(crew, me.threads, helpers), i
    cdef char* buffer = NULL
    if crew.buffer_size:
        buffer = <char*> malloc(crew.buffer_size)
    if buffer != NULL or not crew.buffer_size:  # without memory of its own it leaves the work to the others
        floating_point_default()
        while not crew_is_late() and take_share(crew, buffer):
            pass
    free(buffer)
    for i in range(started):
        crew_thread_wait(&helpers[i].thread)


def _end():
    crew_add(&crew_late, 1)


# After the threads that Python waits for. Whatever is filled later is filled by its caller alone.
crew_late = 0
atexit.register(_end)


cdef void free_crew(crew_t* crew) noexcept nogil:
    if crew != NULL:
        free(crew.plans)
        free(crew.ends)
    free(crew)


cdef bint work_together(crew_t* crew, int64_t share, int32_t threads, look, int64_t look_after) except -1:
    """Do all units with several threads; whether all were done, which a fork may prevent."""
    cdef char* buffer = NULL
    cdef floating_point_state found
    cdef long process = crew_process()
    cdef bint has_more = True
    cdef int started = 0, i
    crew.share = max(share, 1, (crew.units - 1) // MOST_SHARES + 1)
    crew.shares = <int32_t> ((crew.units + crew.share - 1) // crew.share)
    if crew.buffer_size:
        buffer = <char*> malloc(crew.buffer_size)
        if buffer == NULL:
            raise MemoryError("no memory for the tile buffer of fill")
    with nogil:
        started = start_helpers(crew, min(threads, crew.shares), crew.helpers)
    try:
        while has_more and crew_process() == process:
            with nogil:
                found = floating_point_default()
                for _ in range(look_after):
                    has_more = take_share(crew, buffer)
                    if not has_more:
                        break
                floating_point_restore(found)
            look()
    finally:
        crew_add(&crew.taken, crew.shares)
        if crew_process() == process:
            with nogil:
                for i in range(started):
                    crew_thread_wait(&crew.helpers[i].thread)
        free(buffer)
    return crew.done == crew.shares


def fill_together(tuple plans not None, int64_t share, int32_t threads, look not None, int64_t look_after=1):
    """Do all units of some plans with several threads.

    Parameters
    ----------
    plans : tuple of Plan
        Their memory does not overlap.
    share : int
        How many units a thread takes at a time; more where there would be more than 2^29 shares.
    threads : int
        At most so many, this one included. Where the system gives fewer, those do the same work.
    look : callable
        Called without arguments by this thread, between shares: it may raise.
    look_after : int
        After how many of its shares.

    Raises
    ------
    MemoryError
        If there is no memory for what threads need. Nothing has been written then.
    RuntimeError
        If `look` forked this process, in the child: shares that helpers had in hand are not filled.
    """
    cdef crew_t* crew = <crew_t*> calloc(1, sizeof(crew_t))
    cdef Plan plan
    cdef int i
    try:
        if crew != NULL:
            crew.do_share = fill_share
            crew.count = <int> len(plans)
            crew.plans = <const plan_t**> malloc(max(crew.count, 1) * sizeof(plan_t*))
            crew.ends = <int64_t*> malloc(max(crew.count, 1) * sizeof(int64_t))
        if crew == NULL or crew.plans == NULL or crew.ends == NULL:
            raise MemoryError("no memory for the threads of fill")
        for i in range(crew.count):
            plan = plans[i]
            crew.plans[i] = &plan.c
            crew.units += plan.c.units
            crew.ends[i] = crew.units
            crew.buffer_size = max(crew.buffer_size, buffer_bytes(&plan.c))
        if not work_together(crew, share, threads, look, look_after):
            raise RuntimeError(
                "threads that shared this work are gone, as after a fork in its middle (os.fork in a signal handler?): "
                "what was to be filled is not whole; call it again")
    finally:
        free_crew(crew)
