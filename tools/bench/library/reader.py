# The other side of the library's cases: the same reads through libnbd's Python.
#
# Arguments: URI, bytes of a read, depth. Each line of its input is a number of seconds to read for; it answers with
# bytes per second.

import random
import sys
import time

import nbd

uri = sys.argv[1]
length, depth = int(sys.argv[2]), int(sys.argv[3])
handle = nbd.NBD()
handle.connect_uri(uri)
blocks = handle.get_size() // length
buffers = [nbd.Buffer(length) for _ in range(depth)]
done = 0
in_flight = 0
end = 0.0


def one_at_a_time():
    global done
    while time.perf_counter() < end:
        handle.pread(length, int(random.random() * blocks) * length)
        done += 1


def start(index):
    global in_flight

    def finished(error):
        global done, in_flight
        in_flight -= 1
        done += 1
        if time.perf_counter() < end:
            idle.append(index)
        return 1

    in_flight += 1
    handle.aio_pread(buffers[index], int(random.random() * blocks) * length, finished)


def many():
    while idle or in_flight:
        while idle:
            start(idle.pop())
        handle.poll(-1)


def run(duration):
    global done, end, idle
    begin = time.perf_counter()
    end = begin + duration
    done = 0
    if depth == 1:
        one_at_a_time()
    else:
        idle = list(range(depth))
        many()
    return done * length / (time.perf_counter() - begin)


for line in sys.stdin:
    print(run(float(line)), flush=True)
handle.shutdown()
