"""A model hub of a few small repositories on the loopback address, with faults on demand. For tests/hub/hub_test.cpp.

Prints its port, then writes one line per request to the log file given: "METHOD PATH RANGE TOKEN". Ends when its stdin closes.
"""

import hashlib
import http.server
import json
import sys
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 400  # 102400 bytes
PIPELINE = {
    "model_index.json": json.dumps({"_class_name": "P", "vae": ["lib", "A"], "scheduler": ["lib", "S"], "none": [None, None]}).encode(),
    "vae/config.json": b'{"_class_name": "A"}', "vae/diffusion_pytorch_model.safetensors": WEIGHTS,
    "vae/diffusion_pytorch_model.fp16.safetensors": WEIGHTS[:50], "vae/diffusion_pytorch_model.bin": WEIGHTS[:60],
    "scheduler/scheduler_config.json": b"{}", "unused/model.safetensors": WEIGHTS[:70], "whole.safetensors": WEIGHTS[:80],
    "README.md": b"# text", "picture.png": b"png",
}
LONE = {"config.json": b"{}", "model.safetensors": WEIGHTS}
REPOSITORIES = {
    "org/pipeline": PIPELINE, "org/lone": LONE, "org/cut": LONE, "org/norange": LONE, "org/wrong": LONE, "org/gated": LONE,
    "org/dead": LONE, "org/unsized": LONE, "org/busy": LONE, "org/evil": {"../../../evil.json": b"{}"},
    "org/pickles": {"config.json": b"{}", "encoder.jit": b"encoder", "decoder.jit": b"decoder"},
}
state = {"served": {}}
log_lock = threading.Lock()


def is_large(path):
    return path.endswith((".safetensors", ".jit", ".bin"))


def blob_of(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def plain(self, status, content=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        token = self.headers.get("Authorization", "-").removeprefix("Bearer ")
        with log_lock, open(sys.argv[1], "a") as log:
            print(self.command, path, self.headers.get("Range", "-"), token, file=log, flush=True)
        if path.startswith("/api/models/"):
            return self.listing(*path.removeprefix("/api/models/").split("/revision/"))
        if path.startswith("/storage/"):
            return self.content(*path.removeprefix("/storage/").split("//"))
        repository, _, inner = path[1:].partition(f"/resolve/{COMMIT}/")
        if inner not in REPOSITORIES.get(repository, {}):
            return self.plain(404)
        if repository == "org/gated" and token != "secret":
            return self.plain(401)
        if is_large(inner):  # as the hub: large files lie on another host
            port = self.server.server_address[1]
            return self.plain(302, Location=f"http://localhost:{port}/storage/{repository}//{inner}")
        self.plain(200, REPOSITORIES[repository][inner])

    def listing(self, repository, revision):
        files = REPOSITORIES.get(repository)
        if repository == "org/busy" and state["served"].setdefault("busy", 0) < 2:
            state["served"]["busy"] += 1
            return self.plain(503)
        if files is None or revision not in ("main", "v1/a", COMMIT):
            return self.plain(404)
        siblings = []
        for path, content in files.items():
            item = {"rfilename": path, "blobId": blob_of(content), "size": len(content)}
            if is_large(path):
                item["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            if repository == "org/unsized":
                item.pop("size")
                item.get("lfs", {}).pop("size", None)
            siblings.append(item)
        self.plain(200, json.dumps({"sha": COMMIT, "siblings": siblings}).encode())

    def content(self, repository, inner):
        content = REPOSITORIES[repository][inner]
        times = state["served"][repository] = state["served"].get(repository, 0) + 1
        if self.headers.get("Authorization"):
            return self.plain(400, b"a token was sent to another host")
        if repository == "org/wrong":
            content = content[:-1] + b"?"
        start = 0
        wanted = self.headers.get("Range")
        if wanted and repository != "org/norange":
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = {"org/cut": times <= 3, "org/norange": times == 1, "org/dead": True}.get(repository, False)
        # A dead server still gives a few bytes the first time and none afterwards.
        length = (0 if repository == "org/dead" and times > 1 else 30000) if cut else len(content)
        self.wfile.write(content[start:start + length])
        if cut:
            self.wfile.flush()
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that hangs up is part of the tests."""


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
