"""Opens COUNT connections to 127.0.0.1:PORT, says half a greeting on each, holds them until standard input ends.

usage: hold.py PORT COUNT HEX-BYTES
Prints "HELD n" once it has them (n may be less than COUNT when the target closes or refuses some).
"""
import resource
import socket
import sys

port, count, greeting = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
limit = hard if hard != resource.RLIM_INFINITY else count + 100
resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, max(soft, count + 100)), hard))
held = []
for n in range(count):
    # One source address has some 28,000 ports, many of them taken: spread over several loopback addresses.
    s = socket.socket()
    s.settimeout(5)
    try:
        s.bind((f"127.0.1.{1 + n % 8}", 0))
        s.connect(("127.0.0.1", port))
        s.send(greeting)
        held.append(s)
    except OSError as error:
        s.close()
        if len(held) == n:
            print(f"connection {n}: {error}", file=sys.stderr)
        if n - len(held) > 100:
            break
print(f"HELD {len(held)}", flush=True)
sys.stdin.read()
