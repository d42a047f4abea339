"""Opens COUNT connections to 127.0.0.1:PORT, says half a greeting on each, and tells what became of them.

usage: hold.py PORT COUNT HEX-BYTES
Prints "OPENED n CLOSED c REFUSED r LATE l" when all are opened: c of the n were ended by the target since, r were turned away by
the system or reset while opening, and l got no answer to their connect within ten seconds. Then, for each line on standard
input, how many are still open: "OPEN n". Ends with standard input.
"""
import select
import socket
import sys

port, count, greeting = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
held, closed, refused, late = [], 0, 0, 0


def sweep():
    """Forgets the connections that the other side has ended: a FIN or a reset, never data."""
    global held, closed
    poll = select.poll()
    by_fd = {s.fileno(): s for s in held}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    for fd, _ in poll.poll(0):
        try:
            ended = by_fd[fd].recv(4096) == b""
        except OSError:
            ended = True
        if ended:
            by_fd.pop(fd).close()
            closed += 1
    held = list(by_fd.values())


for n in range(count):
    # One source address has some 28,000 ports, many of them taken: spread over several loopback addresses.
    s = socket.socket()
    s.settimeout(10)
    try:
        s.bind((f"127.0.1.{1 + n % 8}", 0))
        s.connect(("127.0.0.1", port))
        s.send(greeting)
        held.append(s)
    except TimeoutError:
        late += 1
        s.close()
    except OSError:
        refused += 1
        s.close()
opened = len(held)
sweep()
print(f"OPENED {opened} CLOSED {closed} REFUSED {refused} LATE {late}", flush=True)
for _ in sys.stdin:
    sweep()
    print(f"OPEN {len(held)}", flush=True)
