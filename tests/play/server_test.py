"""`orrery play` from outside, without a browser: several viewers, slow ones, rude ones, and what may not be reached.

    server_test.py build/bin/orrery examples/worlds/pusht
"""
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from playing import Server, Socket, check, png


def pages(server):
    status, page = server.get("/")
    check(status == 200 and b"orrery" in page and b"http://" not in page.replace(b"http://www.w3.org", b""), "the page is served and asks for nothing elsewhere")
    check(server.get("/world.json")[0] == 200 and server.get("/nothing")[0] == 404, "world.json is there, other places are not")
    check(server.get("/recordings/../../etc/passwd")[0] == 404, "files outside cannot be reached")
    check(all(server.get("/", Host=name)[0] == 403 for name in ("evil.example", "127.evil.example:8080", "127.0.0.1.evil.example")), "another host's name is refused")
    check(server.get("/", Host="localhost:1")[0] == 200 and server.get("/", Host="127.0.0.2")[0] == 200, "a loopback's is not")
    check(Socket(server, origin="http://evil.example").status == 403, "another site's page is refused")


def driving(server):
    viewer = Socket(server)
    header, pixels = viewer.frame(lambda h: h["frame"] >= 6)
    check(len(pixels) == header["worlds"] * header["height"] * header["width"] * 3, "frames have the size they say")
    viewer.tell(do="act", row=[100, 400], t=5)
    check(viewer.frame(lambda h: h["echo"] == 5)[0]["row"] == [100, 400], "an action is taken, and comes back for the latency")
    viewer.tell(do="pause")
    paused, seen = viewer.frame(lambda h: h["paused"])
    viewer.tell(do="peek", steps=2)
    check(viewer.frame(lambda h: h["peek"] == 2)[0]["frame"] == paused["frame"], "looking back changes nothing")
    viewer.tell(do="rewind", steps=3)
    check(viewer.frame(lambda h: h["frame"] == paused["frame"] - 3)[0]["paused"], "three steps are taken back")
    viewer.tell(do="rewind", steps=100000)
    check("goes beyond what this world remembers" in viewer.until(lambda k, v: k == "text" and "error" in v)["error"], "rewinding past the beginning is an error")
    viewer.tell(do="prompt", text="rain")
    check("follows actions alone" in viewer.until(lambda k, v: k == "text" and "error" in v)["error"], "words for a world that takes none are an error")
    viewer.tell(do="save")
    state = viewer.until(lambda k, v: k == "state")
    check(state.startswith(b"ORRERYST"), "the state is handed over")
    viewer.tell(do="fork")
    header, pixels = viewer.frame(lambda h: h["worlds"] == 2)
    check(len(pixels) == 2 * header["height"] * header["width"] * 3, "two worlds side by side")
    viewer.tell(do="resume")
    viewer.tell(do="act", row=[500, 10])
    viewer.frame(lambda h: h["frame"] > header["frame"] + 3)
    viewer.tell(do="choose", world=0)
    check(viewer.frame(lambda h: h["active"] == 0)[0]["row"] == [100, 400], "the other goes on with its own action")
    viewer.tell(do="keep")
    viewer.frame(lambda h: h["worlds"] == 1)
    viewer.send(state)
    check(viewer.until(lambda k, v: k == "text" and v.get("done") == "load") is not None, "the state is taken back")
    viewer.send(state[:-9] + b"\0" * 9)
    check("error" in viewer.until(lambda k, v: k == "text" and "error" in v), "a damaged state is refused")
    viewer.send(png(40, 30, bytes((250, 10, 10)) * 1200))
    check(viewer.until(lambda k, v: k == "text" and v.get("done") == "begin") is not None, "a picture begins the world")
    viewer.tell(do="act", row=[9, 9])
    viewer.tell(do="restart")
    check(viewer.answer() == {"done": "restart", "row": [256, 256]}, "a new beginning says with which action it goes on")
    viewer.send(b"GIF89a, but not really")
    check("is no picture" in viewer.until(lambda k, v: k == "text" and "error" in v)["error"], "an upload that is no picture is an error")
    viewer.tell(do="record")
    header = viewer.frame(lambda h: h["recording"])[0]
    viewer.frame(lambda h: h["frame"] > header["frame"] + 4)
    viewer.tell(do="stop")
    answer = viewer.until(lambda k, v: k == "text" and "recording" in v)
    status, video = server.get(answer["recording"])
    check(status == 200 and video[4:8] == b"ftyp", "a recording is an MP4")
    viewer.close()


def together(server):
    """Each viewer has a world of its own."""
    one, other = Socket(server), Socket(server)
    one.tell(do="act", row=[100, 400])
    other.tell(do="act", row=[400, 100])
    check(one.frame(lambda h: h["row"] != [256, 256])[0]["row"] == [100, 400] and other.frame(lambda h: h["row"] != [256, 256])[0]["row"] == [400, 100],
          "two viewers drive two worlds")
    one.tell(do="pause")
    paused = one.frame(lambda h: h["paused"])[0]["frame"]
    start = other.frame()[0]["frame"]
    other.frame(lambda h: h["frame"] > start + 5)
    one.tell(do="peek", steps=0)
    check(one.frame()[0]["frame"] == paused, "one rests while the other goes on")
    one.close()
    # A picture that takes long to read holds up nobody, not even who sent it: what is sent after it is done before.
    other.send(png(8000, 8000, bytes(8000 * 8000 * 3)))
    other.tell(do="act", row=[100, 400], t=77)
    came = other.until(lambda k, v: (k == "frame" and v[0]["echo"] == 77) or (k == "text" and v.get("done") == "begin"))
    check(isinstance(came, tuple), "the world goes on while a large picture is read")
    other.until(lambda k, v: k == "text" and v.get("done") == "begin")
    other.send(png(8000, 8000, bytes(8000 * 8000 * 3)))
    other.send(png(8, 8, bytes(8 * 8 * 3)))
    check("while the one before" in other.until(lambda k, v: k == "text")["error"], "a second picture meanwhile is refused")
    other.until(lambda k, v: k == "text" and v.get("done") == "begin")
    # What a slow viewer does not take is dropped, and its world does not wait.
    slow = Socket(server, receive_buffer=4096)
    last = slow.frame()[0]["frame"]
    for viewer in (slow, other):
        viewer.tell(do="speed", times=1000)
    start = other.frame()[0]["frame"]
    other.frame(lambda h: h["frame"] > start + 60)
    gaps = []
    for _ in range(40):
        frame = slow.frame()[0]["frame"]
        gaps.append(frame - last)
        last = frame
    check(max(gaps) > 5, f"frames that a slow viewer did not take are dropped ({max(gaps) - 1} at once)")
    slow.close()
    other.close()


def interrupted(program, world):
    """The place of recordings is gone: the recording ends with an error, and the world goes on."""
    with tempfile.TemporaryDirectory() as temporary:
        with Server(program, world, temporary=temporary) as server:
            viewer = Socket(server)
            viewer.tell(do="record")
            start = viewer.frame(lambda h: h["recording"])[0]["frame"]
            viewer.frame(lambda h: h["frame"] > start + 2)
            for place in pathlib.Path(temporary).iterdir():
                shutil.rmtree(place)
            viewer.tell(do="stop")
            check("error" in viewer.answer(), "a recording that cannot be kept is an error")
            header = viewer.frame(lambda h: not h["recording"])[0]
            viewer.frame(lambda h: h["frame"] > header["frame"] + 3)
            viewer.tell(do="record")
            check("error" in viewer.answer(), "and so is the next")
            viewer.close()


def rude(server):
    good = Socket(server)
    good.frame()
    nonsense = Socket(server)
    for message in ("", "[]", "{", '{"do":1}', '{"do":"fly"}', '{"do":"act"}', '{"do":"act","row":[1]}', '{"do":"act","row":[1,null]}', '{"do":"act","row":[1,9999]}',
                    '{"do":"speed","times":-1}', '{"do":"choose","world":7}', '{"do":"rewind","steps":-1}', '{"do":"stop"}', "\0\1"):
        nonsense.send(message)
        check("error" in nonsense.until(lambda k, v: k == "text"), f"refused, and the connection stays: {message!r}")
    for _ in range(60):
        nonsense.send("nonsense")
    check(nonsense.ended()[0] in (1008, None), "who only talks nonsense is let go")
    large = Socket(server)
    large.send("x" * 5000)
    check(large.ended()[0] in (1008, None), "a large text is refused")
    huge = Socket(server)
    huge.socket.sendall(struct.pack(">BBQ", 0x82, 0xFF, 65 << 20) + b"\0\0\0\0")
    check(huge.ended()[0] in (1009, None), "a message above 64 MiB is refused before it comes")
    flood = Socket(server)
    try:
        for _ in range(10000):
            flood.tell(do="act", row=[1, 2])
    except OSError:
        pass
    check(flood.ended()[0] in (1008, None), "ten thousand messages at once are refused")
    broken = Socket(server)
    broken.socket.sendall(b"\xff" * 64)
    check(broken.ended() is not None, "what is no WebSocket frame ends that connection")
    slow = Socket(server, receive_buffer=4096)  # never reads
    slow.tell(do="speed", times=1000)
    first = good.frame()[0]["frame"]
    last = good.frame(lambda h: h["frame"] >= first + 10)[0]["frame"]
    check(last >= first + 10, "the other viewer's world went on meanwhile")
    slow.close()
    good.close()


def gone(server):
    """A world whose viewer left takes no more time: the processor rests."""
    def seconds():
        fields = open(f"/proc/{server.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100
    viewer = Socket(server)
    viewer.tell(do="speed", times=1000)
    viewer.frame(lambda h: h["frame"] > 20)
    viewer.close()
    time.sleep(2)
    before = seconds()
    time.sleep(2)
    check(seconds() - before < 0.3, "the world of a closed tab stops")


def places(program, world):
    with Server(program, world) as server:
        taken = subprocess.run([program, "play", "--model", world, "--listen", server.place], capture_output=True, text=True)
        check(taken.returncode == 1 and "in use" in taken.stderr and taken.stderr.count("error:") == 1, "a port in use is a clear error")
    wrong = subprocess.run([program, "play", "--model", world, "--listen", "nowhere"], capture_output=True, text=True)
    check(wrong.returncode == 2 and "--listen" in wrong.stderr, "an address that is none is a clear error")
    with Server(program, world, "--listen", "0.0.0.0:0") as server:
        check("?token=" in server.url and server.get("/")[0] == 403, "elsewhere than on loopback nothing is served without the token")
        token = server.url[server.url.index("?"):]
        check(server.get("/" + token)[0] == 200 and server.get("/world.json" + token)[0] == 200, "with it, everything is")
        check(Socket(server).status == 403 and Socket(server, token).status == 101, "the WebSocket needs it too")


def main():
    program, world = sys.argv[1:3]
    with Server(program, world) as server:
        pages(server)
        driving(server)
        together(server)
        rude(server)
        gone(server)
        check(server.process.poll() is None, "the server still runs")
    interrupted(program, world)
    places(program, world)


if __name__ == "__main__":
    main()
