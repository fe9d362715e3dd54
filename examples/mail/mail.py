"""A mail server that receives real mail and shows it: SMTP on one port, a JSON list on another.

`GET /messages` lists what came in, oldest first; `GET /messages?to=a@b` only what went to one address.
Messages are kept in memory, the newest 1,000.
"""

import collections
import json
import os
import signal
import threading
from datetime import datetime, timezone
from email import message_from_bytes
from email.policy import default as modern
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

SMTP_PORT = int(os.environ.get("SMTP_PORT", "2525"))
HTTP_PORT = int(os.environ.get("HTTP_PORT", "8025"))

messages: collections.deque[dict[str, object]] = collections.deque(maxlen=1000)


class Mailbox:
    """Keeps each message that a client hands over."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name for it
        parsed = message_from_bytes(envelope.content or b"", policy=modern)
        body = parsed.get_body(preferencelist=("plain",))
        message = {
            "received": datetime.now(timezone.utc).isoformat(),
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": parsed["subject"],
            "body": body.get_content() if body else "",
        }
        messages.append(message)
        print(json.dumps({key: message[key] for key in ("received", "to", "subject")}), flush=True)
        return "250 OK"


class List(BaseHTTPRequestHandler):
    """Answers with the messages as JSON."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path != "/messages":
            self.answer(404, {"error": "there is only /messages"})
            return
        wanted = parse_qs(address.query).get("to", [])
        self.answer(200, [each for each in list(messages) if not wanted or set(wanted) & set(each["to"])])  # type: ignore[call-overload]

    def answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: probes come every few seconds."""


def main() -> None:
    """Serve until SIGTERM."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    smtp = Controller(Mailbox(), hostname="", port=SMTP_PORT)
    smtp.start()
    http = ThreadingHTTPServer(("", HTTP_PORT), List)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(f"SMTP on {SMTP_PORT}, HTTP on {HTTP_PORT}", flush=True)
    stopping.wait()
    http.shutdown()
    smtp.stop()


if __name__ == "__main__":
    main()
