"""Hosts on one machine: network namespaces on a switch whose cables may be long, and can be pulled (Linux, root).

A host has an address and a loopback of its own and sees nothing of the machine's network. Its only interface is a TAP
device; the switch reads Ethernet frames from it and writes them to the others after a while. What is lost on a pulled
cable is lost: it is TCP, in the kernel, that has to notice and to send again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TUN = Path("/dev/net/tun")
_INTERFACE, _FRAME_BYTES, _MAC_BYTES = "wire", 2048, 6
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # as in linux/if_tun.h
_CLONE_NEWNET = 0x40000000


def missing() -> str:
    """What this machine lacks for hosts; nothing: they can be had."""
    if os.geteuid() != 0:
        return "root"
    if shutil.which("ip") is None:
        return "ip (iproute2)"
    return "" if TUN.exists() else str(TUN)


class Host:
    """A network namespace with one interface."""

    def __init__(self, name: str, address: str) -> None:
        """``name`` is the namespace's, so no other namespace of the machine may have it."""
        self.name, self.address, self.connected = name, address, True
        _ip("netns", "add", name)
        with self._inside():
            self.wire = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.wire, _TUNSETIFF, struct.pack("16sH", _INTERFACE.encode(), _IFF_TAP | _IFF_NO_PI))
        _ip("-n", name, "address", "add", f"{address}/24", "dev", _INTERFACE)
        for interface in ("lo", _INTERFACE):
            _ip("-n", name, "link", "set", interface, "up")

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """A process of this host."""
        with log.open("wb") as output:
            within = ["ip", "netns", "exec", self.name, *command]
            return subprocess.Popen(within, stdout=output, stderr=output, env=environment)

    def dial(self, address: str, port: int, timeout_seconds: float = 2.0) -> socket.socket:
        """A connection from this host, non-blocking, for use from anywhere: a socket stays in the namespace that it was
        made in. Blocks until it is there, so not for the thread of the switch."""
        with self._inside():
            dialling = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        dialling.settimeout(timeout_seconds)
        try:
            dialling.connect((address, port))
        except OSError:
            dialling.close()
            raise
        dialling.settimeout(0)
        return dialling

    def close(self) -> None:
        """Processes that still run keep the namespace, without a name, until they end."""
        os.close(self.wire)
        _ip("netns", "delete", self.name)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """This thread, and no other one, is in the namespace."""
        with Path("/proc/thread-self/ns/net").open() as outside, Path("/run/netns", self.name).open() as inside:
            _enter(inside.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())


class Switch:
    """Ethernet between hosts. It works while the event loop that it was made on runs."""

    def __init__(self, hosts: Sequence[Host], delay_seconds: float = 0.0) -> None:
        """``delay_seconds``: how long a frame takes from host to host."""
        self._hosts, self._delay_seconds = hosts, delay_seconds
        self._ports: dict[bytes, Host] = {}
        self._loop = asyncio.get_running_loop()
        for host in hosts:
            self._loop.add_reader(host.wire, self._read, host)

    def cut(self, host: Host) -> None:
        """Pulls its cable."""
        host.connected = False

    def mend(self, host: Host) -> None:
        """Plugs it in again."""
        host.connected = True

    def close(self) -> None:
        for host in self._hosts:
            self._loop.remove_reader(host.wire)

    def _read(self, host: Host) -> None:
        with contextlib.suppress(BlockingIOError):
            while frame := os.read(host.wire, _FRAME_BYTES):
                self._take(host, frame)

    def _take(self, host: Host, frame: bytes) -> None:
        """To the host that the frame is for, or to all if nothing was heard of it yet."""
        if not host.connected:
            return
        to, source = frame[:_MAC_BYTES], frame[_MAC_BYTES : 2 * _MAC_BYTES]
        self._ports[source] = host
        known = self._ports.get(to)
        for other in [known] if known else self._hosts:
            if other is not host:
                self._loop.call_later(self._delay_seconds, self._write, other, frame)

    def _write(self, host: Host, frame: bytes) -> None:
        if host.connected:
            with contextlib.suppress(OSError):  # a full queue, or a host that is gone: frames get lost
                os.write(host.wire, frame)


@contextlib.contextmanager
def network(names: Sequence[str], delay_seconds: float = 0.0) -> Iterator[tuple[Switch, dict[str, Host]]]:
    """A switch and its hosts by name, gone after."""
    with contextlib.ExitStack() as stack:
        hosts = {}
        for index, name in enumerate(names, start=1):
            hosts[name] = Host(f"paceline-{os.getpid()}-{name}", f"10.77.0.{index}")
            stack.callback(hosts[name].close)
        switch = Switch(list(hosts.values()), delay_seconds)
        stack.callback(switch.close)
        yield switch, hosts


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)  # noqa: S607 - the system's own, by its path


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
