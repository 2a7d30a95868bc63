"""Programs that strangers of a relay run, for their container's Python; standard library only. Pure."""

from __future__ import annotations

from typing import Final

EARLY: Final = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 25), 20)
connection.sendall(sys.argv[2].encode())
print(connection.makefile("rb").read().decode())
"""
"""Talks before it is greeted. Arguments: host, what it says."""

AT_ONCE: Final = """
import socket, sys
held = [socket.create_connection((sys.argv[1], 25), 20) for _ in range(int(sys.argv[2]))]
print(*[one.recv(3).decode() for one in held])
"""
"""Holds so many connections; the first word of each greeting. Arguments: host, count."""

TLS: Final = """
import smtplib, socket, ssl, sys
host, name = sys.argv[1:3]
def open_plain():
    client = smtplib.SMTP(host, 25, local_hostname="outside.example.test", timeout=20)
    client.ehlo()
    return client
def deliver(client):
    client.ehlo()
    client.mail("ann@outside.example.test")
    code, _ = client.rcpt("ant@lists.example.test")
    client.close()
    return code
def start_tls(client, **versions):
    context = ssl.create_default_context(cafile="/ca.pem")
    if versions:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    for key, value in versions.items():
        setattr(context, key, value)
    client._host = name
    try:
        client.starttls(context=context)
    except ssl.SSLError as error:
        return error.reason
    return deliver(client)
print(deliver(open_plain()))
print(start_tls(open_plain()))
print(start_tls(open_plain(), minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1))
client = open_plain()
client.docmd("STARTTLS")
client.sock.sendall(b"MAIL FROM:<ann@outside.example.test>\\r\\n" * 20)
try:
    print("answered" if b"250" in client.sock.recv(4096) else "ended")
except OSError:
    print("ended")
# What comes with STARTTLS in one packet was never protected: it must not count afterwards (CVE-2011-0411).
client = open_plain()
client.sock.sendall(b"STARTTLS\\r\\nRSET\\r\\n")
print(client.getreply()[0])
context = ssl.create_default_context(cafile="/ca.pem")
try:
    with context.wrap_socket(client.sock, server_hostname=name) as inner:
        inner.settimeout(1)
        inner.sendall(b"NOOP x\\r\\n")
        first = inner.recv(4096)
        try:
            more = inner.recv(4096)
        except TimeoutError:
            more = b""
        print((first + more).count(b"\\r\\n"))
except OSError as error:
    print("ended")
print(deliver(open_plain()))
"""
"""A line for each way to begin TLS, or none: what became of it. Arguments: host, the name in its certificate."""

LARGE: Final = """
import json, socket, sys
connection = socket.create_connection((sys.argv[1], 25), 60)
stream = connection.makefile("rb")
def read():
    while (line := stream.readline())[3:4] == b"-":
        pass
    return line
read()
*steps, head = json.loads(sys.argv[2])
for step in steps:
    connection.sendall(step.encode())
    read()
connection.sendall(head.encode() + (b"x" * 998 + b"\\r\\n") * int(sys.argv[3]) + b".\\r\\n")
print(read().decode())
"""
"""Sends a large message; the reply. Arguments: host, JSON of what it says before, thousands of bytes."""
