"""Arguments: host, port, recipient or nothing, sender, host of all gateways, their status port or nothing."""

import http.client
import smtplib
import socket
import sys
import uuid
from email.message import EmailMessage

host, port, recipient, sender, fleet, status = sys.argv[1:]
failed = False
for address in sorted({found[4][0] for found in socket.getaddrinfo(fleet, int(port), type=socket.SOCK_STREAM)}):
    with smtplib.SMTP(address, int(port), "helm-test.invalid", timeout=30) as gateway:
        print(f"{address}: greets: {gateway.ehlo()[1].decode().splitlines()[0]}")
    if status:
        asking = http.client.HTTPConnection(address, int(status), timeout=30)
        asking.request("GET", "/readyz", headers={"Accept": "text/plain"})
        answer = asking.getresponse()
        failed = failed or answer.status != 200
        print(f"{address}: {'ready, and its upstream works' if answer.status == 200 else 'not ready'}")
        print(answer.read().decode())
if recipient:
    message = EmailMessage()
    message["From"], message["To"] = sender, recipient
    message["Subject"] = "helm test of authrelay"
    message["Message-ID"] = f"<{uuid.uuid4()}@helm-test.invalid>"
    message.set_content("If you can read this, mail of this cluster arrives.")
    with smtplib.SMTP(host, int(port), "helm-test.invalid", timeout=30) as service:
        service.send_message(message)
    print(f"{host}: accepted {message['Message-ID']} for {recipient}; see whether it arrives")
else:
    print("No message was sent: test.to names nobody.")
sys.exit(failed)
