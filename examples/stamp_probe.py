#!/usr/bin/env python3
"""Sends STAMP probes (RFC 8762) from a plain socket to any reflector, and prints what the four stamps say.

The stamps T1 and T4 are this process's, so its scheduling is in the round trip: compare with `kstamp ping`.
"""

import argparse
import socket
import struct
import time

NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970
PROBE = struct.Struct("!IQHH28x")  # sequence, T1, error estimate, SSID (RFC 8972), 28 zero bytes: 44 in all
REPLY = struct.Struct("!IQHHQIQ")  # sequence, T3, error estimate, SSID, T2, sender's sequence, sender's T1
NOT_SYNCHRONISED = 0x0001  # error estimate: S = 0, Z = 0 (NTP format), multiplier 1


def ntp(unix_ns):
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    return (seconds + NTP_EPOCH_S) << 32 | (rest << 32) // 1_000_000_000


def ns(stamp):
    return (stamp >> 32) * 1_000_000_000 + ((stamp & 0xFFFF_FFFF) * 1_000_000_000 >> 32)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--port", type=int, default=862)
    parser.add_argument("--count", type=int, default=3)
    options = parser.parse_args()
    family, kind, _, _, target = socket.getaddrinfo(options.address, options.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(target)
        for sequence in range(options.count):
            t1 = ntp(time.time_ns())
            sock.send(PROBE.pack(sequence, t1, NOT_SYNCHRONISED, 7))
            try:
                packet = sock.recv(2048)
            except OSError as error:
                print(f"probe {sequence}: {error}")
                continue
            t4 = ntp(time.time_ns())
            _, t3, _, _, t2, replied_to, returned_t1 = REPLY.unpack_from(packet)
            if (replied_to, returned_t1) != (sequence, t1):
                print(f"probe {sequence}: a reply to another probe")
                continue
            residence = ns(t3) - ns(t2)
            print(f"probe {sequence}: rtt={(ns(t4) - ns(t1) - residence) / 1e3:.1f} µs residence={residence / 1e3:.2f} µs")
            time.sleep(0.1)


if __name__ == "__main__":
    main()
