"""For tests of downloads: archives, and a local web server that can misbehave."""

import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `files` (path -> bytes) and records every request's (path, Range)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.etags = True  # name a version, and answer ranges
        self.cuts: list[int] = []  # close the next answers after so many bytes
        self.statuses: list[int] = []  # give the next answers these statuses
        self.stall: threading.Event | None = None  # wait for it after half of a file

    def handle_error(self, request, client_address):
        """A client that has gone is no news."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server: Server = self.server
        wanted = self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        body = server.files[self.path]
        etag = f'"{hash(body)}"'
        start = 0
        if server.etags and wanted and self.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if server.etags:
            self.send_header("ETag", etag)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}"
            )
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if server.stall is not None:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            server.stall.wait(60)
            self.wfile.write(body[len(body) // 2 :])
            return
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[start : start + cut])

    def log_message(self, *args):
        pass


def serve() -> Server:
    """A running server; call its `shutdown` at the end."""
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def zipped(members: dict[str, str | bytes]) -> bytes:
    """A .zip archive of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def tarred(
    members: dict[str, str | bytes],
    suffix: str = ".tar.gz",
    special: tarfile.TarInfo | None = None,
) -> bytes:
    """A .tar.gz or .tar.bz2 archive of these files, and of a link or device."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:" + suffix.rpartition(".")[2]) as archive:
        for name, body in members.items():
            body = body.encode() if isinstance(body, str) else body
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        if special is not None:
            archive.addfile(special)
    return buffer.getvalue()
