#!/usr/bin/env python3
"""A legacy agent in userspace, to compare kstamp with and to test that the two measure each other.

It joins the group on the test port and returns every datagram unchanged to its source. From another port it sends "1",
"2", ... in ASCII to the group. A datagram with the same number from another address is the reply; without one, the probe
is dropped after the timeout. Reports have the average latency (half the round trip) and the number of drops.
"""

import argparse
import asyncio
import ipaddress
import socket
import struct
import sys
import time


class Reflector(asyncio.DatagramProtocol):
    """Returns every datagram on the test port."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Probe(asyncio.DatagramProtocol):
    """Sends ASCII numbers and measures their round trips."""

    def __init__(self, options, own, samples):
        self.options, self.own, self.samples = options, own, samples
        self.waiting = {}
        self.sent = self.received = self.dropped = 0
        self.window, self.window_drops = [], 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        now = time.monotonic()
        if address[0].split("%")[0] == self.own:
            return
        try:
            sent = self.waiting.pop(int(data), None)
        except ValueError:
            return
        if sent is not None:
            self.received += 1
            self.window.append(now - sent)
            if self.samples:
                print(round((now - sent) * 1e9), file=self.samples)

    def expire(self):
        limit = time.monotonic() - self.options.timeout
        for number in [number for number, sent in self.waiting.items() if sent < limit]:
            del self.waiting[number]
            self.dropped += 1
            self.window_drops += 1

    def report(self):
        average = sum(self.window) / len(self.window) / 2 * 1e3 if self.window else float("nan")
        print(f"average latency {average:.3f} ms, {self.window_drops} dropped", flush=True)
        self.window, self.window_drops = [], 0

    async def run(self, to):
        begin = reported = time.monotonic()
        while self.options.count is None or self.sent < self.options.count:
            self.sent += 1
            self.waiting[self.sent] = time.monotonic()
            self.transport.sendto(str(self.sent).encode(), to)
            self.expire()
            if time.monotonic() - reported >= self.options.report:
                reported = time.monotonic()
                self.report()
            due = begin + self.sent * self.options.interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        end = time.monotonic() + self.options.timeout
        while self.waiting and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self.dropped += len(self.waiting)


def address_of(interface, family):
    """The interface's address; for IPv6 the global one."""
    if family == socket.AF_INET6:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            rows = [line.split() for line in table]
        found = [row[0] for row in rows if row[5] == interface and row[3] == "00"]
        return str(ipaddress.IPv6Address(int(found[0], 16))) if found else ""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        request = struct.pack("256s", interface.encode())
        return socket.inet_ntoa(fcntl.ioctl(query, 0x8915, request)[20:24])


def bound(family, interface, port):
    """A socket bound to the interface and the port."""
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(interface))
    else:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    one.setblocking(False)
    one.bind(("", port))
    return one


def join(one, family, interface, group):
    index = socket.if_nametoindex(interface)
    packed = socket.inet_pton(family, group)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("@I", index))
    else:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("@4s4si", packed, bytes(4), index))


async def run(options):
    family = socket.AF_INET6 if ":" in options.group else socket.AF_INET
    loop = asyncio.get_running_loop()
    test = bound(family, options.iface, options.port)
    join(test, family, options.iface, options.group)
    await loop.create_datagram_endpoint(Reflector, sock=test)
    print("ready", flush=True)
    if options.echo_only:
        await asyncio.Event().wait()
    samples = open(options.samples, "w", encoding="ascii") if options.samples else None
    probe = Probe(options, address_of(options.iface, family), samples)
    await loop.create_datagram_endpoint(lambda: probe, sock=bound(family, options.iface, 0))
    try:
        await probe.run((options.to or options.group, options.port))
    finally:
        if samples:
            samples.close()
    print(f"sent {probe.sent}, received {probe.received}, dropped {probe.dropped}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iface", required=True, help="interface to use")
    parser.add_argument("--group", default="239.255.255.250", help="multicast group (default: %(default)s)")
    parser.add_argument("--port", type=int, default=1910, help="test port (default: %(default)s)")
    parser.add_argument("--to", help="probe this address instead of the group")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between probes (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds until a probe is dropped (default: %(default)s)")
    parser.add_argument("--report", type=float, default=10.0, help="seconds between reports (default: %(default)s)")
    parser.add_argument("--count", type=int, help="stop after this many probes")
    parser.add_argument("--samples", help="write each round trip to this file, in nanoseconds")
    parser.add_argument("--echo-only", action="store_true", help="send no probes")
    try:
        asyncio.run(run(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
