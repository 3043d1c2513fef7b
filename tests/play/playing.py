"""What the tests of `orrery play` share: the server as a child, a small WebSocket client, HTTP. Standard library only."""
import base64
import json
import math
import os
import pathlib
import random
import select
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from urllib.parse import urlsplit


class Server:
    """`orrery play` on a free port; `url` is what it printed."""

    def __init__(self, program, world, *options, temporary=None):
        self.process = subprocess.Popen([program, "play", "--model", world, "--threads", "1", "--listen", "127.0.0.1:0", *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=os.environ | ({"TMPDIR": temporary} if temporary else {}))
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise SystemExit("orrery play did not start")
        self.place = urlsplit(self.url).netloc

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def get(self, path, **headers):
        request = urllib.request.Request(f"http://{self.place}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def png(width, height, pixels):
    """A picture; pixels are width · height · 3 bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + pixels[y * width * 3:(y + 1) * width * 3] for y in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def read_tensors(path):
    """Name → (shape, dtype, bytes) of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    return {name: (about["shape"], about["dtype"], data[8 + size:][slice(*about["data_offsets"])]) for name, about in header.items() if name != "__metadata__"}


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, (shape, dtype, bytes_) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def world_of_blocks(folder):
    """A walking game of random weights (keys and mouse, blocks of frames), as the options of `orrery play`; its files go into a folder."""
    golden = pathlib.Path(__file__).resolve().parent.parent / "golden" / "worlds" / "matrix_game"
    given = read_tensors(golden / "rollout.safetensors")
    (_, height, width, _), _, pixels = given["image"]
    (folder / "first.png").write_bytes(png(width, height, pixels))
    write_tensors(folder / "embeds.safetensors", {"image_embeds": given["image_embeds"]})
    return golden / "model", "-i", str(folder / "first.png"), "--embeds", str(folder / "embeds.safetensors")


def world_of_words(folder):
    """The causal text-to-video network of a golden case as a world, with a text encoder of random weights."""
    golden = pathlib.Path(__file__).resolve().parent.parent / "golden" / "pipelines"
    for part in ("transformer", "vae"):
        (folder / part).symlink_to(golden / "causal_wan_text2video" / "model" / part)
    (folder / "tokenizer").symlink_to(golden / "wan21_text2video_prompt" / "model" / "tokenizer")
    width, inner, words, layers = 16, 24, 305, 1
    shapes = {"shared.weight": (words, width), "encoder.final_layer_norm.weight": (width,)}
    for block in (f"encoder.block.{i}.layer" for i in range(layers)):
        shapes |= {f"{block}.0.SelfAttention.{name}.weight": (width, width) for name in "qkvo"}
        shapes |= {f"{block}.0.SelfAttention.relative_attention_bias.weight": (8, 4), f"{block}.0.layer_norm.weight": (width,),
                   f"{block}.1.layer_norm.weight": (width,), f"{block}.1.DenseReluDense.wi_0.weight": (inner, width),
                   f"{block}.1.DenseReluDense.wi_1.weight": (inner, width), f"{block}.1.DenseReluDense.wo.weight": (width, inner)}
    draw, tensors = random.Random(3), {}
    for name, shape in shapes.items():
        values = [1.0 if len(shape) == 1 else draw.gauss(0, shape[-1]**-0.5) for _ in range(math.prod(shape))]
        tensors[name] = shape, "F32", struct.pack(f"<{len(values)}f", *values)
    (folder / "text_encoder").mkdir()
    write_tensors(folder / "text_encoder" / "model.safetensors", tensors)
    (folder / "text_encoder" / "config.json").write_text(json.dumps({
        "architectures": ["UMT5EncoderModel"], "model_type": "umt5", "d_model": width, "d_kv": 4, "num_heads": 4, "d_ff": inner, "num_layers": layers,
        "vocab_size": words, "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu"}))
    (folder / "model_index.json").write_text(json.dumps({
        "_class_name": "CausalInferencePipeline", "sample_height": 16, "sample_width": 32, "transformer": ["self_forcing", "CausalWanModel"],
        "vae": ["diffusers", "AutoencoderKLWan"], "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5Tokenizer"]}))
    return folder


class Socket:
    """A WebSocket client that sends whatever it is told to."""

    def __init__(self, server, query="", origin=None, receive_buffer=None):
        host, port = server.place.rsplit(":", 1)
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect((host, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET /world{query} HTTP/1.1", f"Host: {server.place}", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
                 "Sec-WebSocket-Version: 13"] + ([f"Origin: {origin}"] if origin else [])
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            some = self.socket.recv(4096)
            if not some:
                break
            self.rest += some
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        self.status = int(head.split()[1])

    def take(self, size):
        while len(self.rest) < size:
            some = self.socket.recv(1 << 16)
            if not some:
                raise ConnectionError("closed")
            self.rest += some
        out, self.rest = self.rest[:size], self.rest[size:]
        return out

    def send(self, data, opcode=None):
        opcode = opcode or (1 if isinstance(data, str) else 2)
        data = data.encode() if isinstance(data, str) else data
        size = len(data)
        head = bytes([0x80 | opcode]) + (bytes([0x80 | size]) if size < 126 else struct.pack(">BH", 0xFE, size) if size < 65536 else struct.pack(">BQ", 0xFF, size))
        self.socket.sendall(head + b"\0\0\0\0" + data)  # masked with zeros

    def tell(self, **message):
        self.send(json.dumps(message))

    def receive(self):
        """(opcode, bytes) of a whole message; answers pings."""
        opcode, whole = 0, b""
        while True:
            first, second = self.take(2)
            size = second & 127
            if size == 126:
                size = struct.unpack(">H", self.take(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.take(8))[0]
            data = self.take(size)
            if first & 15 == 9:
                self.send(data, opcode=10)
                continue
            opcode, whole = opcode or first & 15, whole + data
            if first & 128:
                return opcode, whole

    def until(self, wanted, patience=60):
        """The first thing received for which wanted(kind, value) is true; kind is "frame", "state", "text" or "close"."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            opcode, data = self.receive()
            if opcode == 8:
                got = "close", (struct.unpack(">H", data[:2])[0], data[2:].decode())
            elif opcode == 1:
                got = "text", json.loads(data)
            elif data[:1] == b"F":
                size = struct.unpack("<I", data[1:5])[0]
                got = "frame", (json.loads(data[5:5 + size]), data[5 + size:])
            else:
                got = "state", data[1:]
            if wanted(*got):
                return got[1]
        raise SystemExit("what was waited for did not come")

    def frame(self, wanted=lambda header: True):
        return self.until(lambda kind, value: kind == "frame" and wanted(value[0]))

    def answer(self):
        return self.until(lambda kind, value: kind == "text")

    def ended(self, patience=60):
        """How the server ends the connection: (code, reason)."""
        try:
            return self.until(lambda kind, value: kind == "close", patience)
        except (ConnectionError, OSError):
            return None, "closed"

    def close(self):
        self.socket.close()


def check(condition, what):
    print(("ok    " if condition else "FAILED"), what, flush=True)
    if not condition:
        sys.exit(1)


class Chromium:
    """A headless Chromium, spoken to through its DevTools pipe: messages end with a zero byte."""

    def __init__(self, program, profile):
        to_child, self.out = os.pipe()
        self.inn, from_child = os.pipe()

        def pipes():  # Chromium reads file 3 and writes file 4
            saved = os.dup(to_child), os.dup(from_child)
            os.dup2(saved[0], 3)
            os.dup2(saved[1], 4)

        self.process = subprocess.Popen([program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                         "--no-first-run", f"--user-data-dir={profile}", "--window-size=1240,800", "about:blank"], preexec_fn=pipes,
                                        close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_child)
        os.close(from_child)
        self.rest, self.number, self.session = b"", 0, None

    def call(self, method, patience=120, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + patience
        while time.monotonic() < end:
            while b"\0" in self.rest:
                text, _, self.rest = self.rest.partition(b"\0")
                answer = json.loads(text)
                if answer.get("id") == self.number:
                    if "error" in answer:
                        raise SystemExit(f"{method}: {answer['error']}")
                    return answer["result"]
            if select.select([self.inn], [], [], 1)[0]:
                some = os.read(self.inn, 1 << 20)
                if not some:
                    raise SystemExit("Chromium ended")
                self.rest += some
        raise SystemExit(f"{method}: no answer")

    def open(self, url, width=1240, height=800, touch=False):
        """A new tab, which is spoken to from now on; its number."""
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        if touch:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Page.navigate", url=url)
        return target

    def run(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, what, patience=90):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.run(expression):
                return check(True, what)
            time.sleep(0.1)
        print(self.run("document.body.innerText"))
        check(False, what)

    def key(self, key, kind):
        self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode={"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32}.get(key, 0))

    def mouse(self, kind, x, y, buttons=1):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def end(self):
        self.process.terminate()
        self.process.wait()
