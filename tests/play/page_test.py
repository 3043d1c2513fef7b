"""The page of `orrery play` in a real headless Chromium: keys, mouse, touch, pause, rewind, fork, upload, recording. Screenshots stay behind.

    page_test.py build/bin/orrery examples/worlds build/play
Exit code 77: there is no Chromium here.
"""
import pathlib
import shutil
import sys
import tempfile

from playing import Chromium, Server, check, world_of_blocks, world_of_words

PAINT = """(index) => { const c = document.getElementById('canvas' + index), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let h = 0; for (let i = 0; i < d.length; i += 41) h = (h * 31 + d[i]) | 0; return h; }"""
# How blue each pixel is, as the pusher alone is; and where the picture became bluer since it was last remembered, as shares of the
# width and height: a world may leave a ghost where the pusher was, and paler ones elsewhere, but it is at its new place that most blue
# appears, in a window of a twelfth of the picture.
BLUE = """window.blue = () => { const c = document.getElementById('canvas0'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data,
  out = new Float32Array(d.length / 4); for (let i = 0; i < out.length; ++i) out[i] = Math.max(0, d[4 * i + 2] - (d[4 * i] + d[4 * i + 1]) / 2 - 40);
  return out; }, window.before = window.blue(), 0"""
GAINED = """(() => { const w = document.getElementById('canvas0').width, now = window.blue(), h = now.length / w, r = Math.round(w / 24), t = new Float64Array((w + 1) * (h + 1));
  for (let y = 0; y < h; ++y) for (let x = 0; x < w; ++x) t[(y + 1) * (w + 1) + x + 1] = Math.max(0, now[y * w + x] - window.before[y * w + x] - 20)
      + t[y * (w + 1) + x + 1] + t[(y + 1) * (w + 1) + x] - t[y * (w + 1) + x];
  let most = 0, at = [0, 0];
  for (let y = r; y < h - r; ++y) for (let x = r; x < w - r; ++x) {
    const sum = t[(y + r) * (w + 1) + x + r] - t[(y - r) * (w + 1) + x + r] - t[(y + r) * (w + 1) + x - r] + t[(y - r) * (w + 1) + x - r];
    if (sum > most) { most = sum; at = [x / w, y / h]; } }
  return at; })()"""
# How far the picture moves to the right from each frame to the next, in pixels of the world, summed: of the shifts that lay one grey
# frame over the other, the one with the smallest difference. `seen` collects what the page draws.
WATCH = """(() => { window.seen = []; if (!window.plainDraw) { window.plainDraw = draw; draw = (header, pixels) => { window.plainDraw(header, pixels);
  const w = header.width, h = header.height, grey = new Float32Array(w * h);
  for (let i = 0; i < w * h; ++i) grey[i] = (pixels[3 * i] + pixels[3 * i + 1] + pixels[3 * i + 2]) / 3;
  window.seen.push({ frame: header.frame, w, h, grey }); }; } return 0; })()"""
SHIFT = """(() => { let sum = 0; const f = window.seen.filter((each, i, all) => i === 0 || each.frame !== all[i - 1].frame);
  for (let k = 1; k < f.length; ++k) { const { w, h } = f[k]; let best = 0, least = Infinity;
    for (let d = -12; d <= 12; ++d) { let s = 0, n = 0; for (let y = 0; y < h; ++y) for (let x = Math.max(0, d); x < Math.min(w, w + d); ++x, ++n)
        s += Math.abs(f[k].grey[y * w + x] - f[k - 1].grey[y * w + x - d]);
      if (s / n < least) { least = s / n; best = d; } }
    sum += best; }
  return sum; })()"""


# Gives the page the file that a link offers: by the button with this id, or dropped on the page where there is none.
GIVE = """(async (link, button) => { const blob = await (await fetch(link)).blob(), carried = new DataTransfer(); carried.items.add(new File([blob], "given"));
  if (!button) return void document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true }));
  const input = document.getElementById(button); input.files = carried.files; input.dispatchEvent(new Event("change")); })"""
# A gamepad whose sticks and buttons are given.
GAMEPAD = """((axes, buttons) => { navigator.getGamepads = () => [{ axes, buttons: Array.from({ length: 16 }, (_, i) => ({ pressed: buttons.includes(i) })) }]; return 0; })"""


def frame(browser):
    return browser.run("now.frame")


def hold(browser, key, frames):
    """Holds a key for so many frames."""
    start = frame(browser)
    browser.key(key, "keyDown")
    browser.wait(f"now.frame > {start} + {frames}", f"{key} is held")
    browser.key(key, "keyUp")


def pusht(browser, server, folder):
    browser.open(server.url)
    browser.wait("typeof now === 'object' && now && now.frame > 6", "PushT: frames come")
    check(browser.run("document.querySelectorAll('.key').length") == 4, "four keys are labelled")
    check(browser.run("document.getElementById('words').hidden"), "no words are asked for")
    check("target left" in browser.run("document.getElementById('keys').innerText"), "their labels come from the action space")
    before, row = browser.run(f"({PAINT})(0)"), browser.run("now.row[0]")
    browser.key("ArrowRight", "keyDown")
    browser.wait(f"now.row[0] >= {row} + 96", "a held arrow moves the target to the right, step by step")
    check(browser.run("document.querySelector('.key[data-key=ArrowRight]').classList.contains('held')"), "the key lights up")
    browser.key("ArrowRight", "keyUp")
    check(browser.run(f"({PAINT})(0)") != before, "the picture changes")
    box = browser.run("(b => [b.left, b.top, b.width, b.height])(document.getElementById('canvas0').getBoundingClientRect())")

    def aim(x, y):
        """Where the pusher appears when the mouse points there."""
        browser.run(BLUE)
        browser.mouse("mousePressed", box[0] + box[2] * x, box[1] + box[3] * y)
        browser.wait(f"Math.abs(now.row[0] - {512 * x}) < 8 && Math.abs(now.row[1] - {512 * y}) < 8", f"the mouse aims at {x}, {y}")
        browser.mouse("mouseReleased", box[0] + box[2] * x, box[1] + box[3] * y, buttons=0)
        start = frame(browser)
        browser.wait(f"now.frame > {start} + 10", "the world goes on")
        return browser.run(GAINED)

    for x, name in ((0.2, "left"), (0.8, "right")):
        got = aim(x, 0.3)
        browser.screenshot(folder / f"pusht_{name}.png")
        print(f"      the mouse points at {x}, 0.3: the pusher appears at {got[0]:.2f}, {got[1]:.2f}")
        check(abs(got[0] - x) < 0.12 and abs(got[1] - 0.3) < 0.12, "the pusher follows the mouse")
    for key, axis, way in (("ArrowLeft", 0, -1), ("ArrowRight", 0, 1), ("ArrowUp", 1, -1), ("ArrowDown", 1, 1)):
        browser.run("document.getElementById('restart').click()")
        aim(0.5, 0.3)
        browser.run(BLUE)
        hold(browser, key, 8)
        got = browser.run(GAINED)
        print(f"      {key}: the pusher appears at {got[0]:.2f}, {got[1]:.2f}, from 0.50, 0.30")
        check(way * (got[axis] - (0.5, 0.3)[axis]) > 0.04, f"{key} moves the pusher that way")
    check(browser.run("parseFloat(document.getElementById('latency').innerText) > 0 && parseFloat(document.getElementById('hz').innerText) > 0"), "frames per second and latency are shown")

    browser.run("document.getElementById('restart').click()")
    browser.wait("now.frame < 20 && JSON.stringify(row) === JSON.stringify(now.row) && row[0] === 256", "a new beginning aims where the world does")
    browser.run(f"({GAMEPAD})([0, 0, 0, 0], [15])")
    browser.wait("now.row[0] >= 320", "a gamepad's cross moves the target")
    browser.run(f"({GAMEPAD})([0, -1, 0, 0], [])")
    browser.wait("now.row[1] <= 192", "and so does its stick")
    browser.run("navigator.getGamepads = () => []")
    browser.wait("!held.length", "a gamepad that is gone holds nothing")

    browser.key(" ", "keyDown")
    browser.key(" ", "keyUp")
    browser.wait("now.paused", "the space bar pauses")
    start = frame(browser)
    browser.run("document.getElementById('save').click()")
    browser.wait("!!document.querySelector('#told a')", "a state is saved")
    browser.run("saved = document.querySelector('#told a').href, document.getElementById('restart').click()")
    browser.wait("now.frame < 8", "the world begins anew")
    browser.run(f"({GIVE})(saved, 'load')")
    browser.wait(f"now.frame === {start} && /saved world goes on/.test(document.getElementById('told').innerText)", "and goes on where it was saved")
    browser.run("document.getElementById('pause').click()")
    browser.wait(f"!now.paused && now.frame > {start} + 8", "the past fills again")
    browser.run("document.getElementById('pause').click()")
    browser.wait("now.paused", "a pause")
    start = frame(browser)
    browser.run("(s => { s.value = s.max - 5; s.dispatchEvent(new Event('input')); })(document.getElementById('rewind'))")
    browser.wait("now.peek === 5", "the slider looks back")
    browser.screenshot(folder / "pusht_rewind.png")
    browser.run("document.getElementById('rewind').dispatchEvent(new Event('change'))")
    browser.wait(f"now.frame === {start} - 5", "and takes five steps back")
    browser.run("document.getElementById('fork').click()")
    browser.wait("now.worlds === 2", "the world is forked")
    browser.run("document.getElementById('pause').click()")
    browser.run("row = [40, 470]; act()")
    browser.wait(f"now.frame > {start} + 10", "both go on")
    check(browser.run(f"({PAINT})(0) !== ({PAINT})(1)"), "and part")
    browser.screenshot(folder / "pusht_fork.png")
    browser.run("document.getElementById('keep').click()")
    browser.wait("now.worlds === 1", "one is kept")

    browser.run("document.getElementById('record').click()")
    browser.wait("now.recording", "recording")
    start = frame(browser)
    browser.wait(f"now.frame > {start} + 8", "some frames")
    browser.run("document.getElementById('record').click()")
    browser.wait("!!document.querySelector('#told a')", "the recording is offered")
    size = browser.run("fetch(document.querySelector('#told a').href).then(a => a.arrayBuffer()).then(b => b.byteLength)")
    check(size > 500, "and can be fetched")
    browser.run("socket.send(new TextEncoder().encode('no picture at all').buffer)")
    browser.wait("document.getElementById('told').classList.contains('error') && /no picture/.test(document.getElementById('told').innerText)", "an upload that is no picture is told")
    browser.screenshot(folder / "pusht_error.png")
    browser.run("""new Promise(done => { const c = document.createElement('canvas'); c.width = 90; c.height = 70; const p = c.getContext('2d');
        p.fillStyle = '#fff'; p.fillRect(0, 0, 90, 70); p.fillStyle = '#4169e1'; p.fillRect(20, 20, 9, 9); c.toBlob(b => { picture = URL.createObjectURL(b); done(1); }); })""")
    for way in ("'picture'", "null"):
        browser.run(f"tell(''), ({GIVE})(picture, {way})")
        browser.wait("/your picture/.test(document.getElementById('told').innerText)", f"a picture begins the world ({way})")


def doom(browser, server, folder):
    browser.open(server.url)
    browser.wait("typeof now === 'object' && now && now.frame > 8", "Doom: frames come")
    check("turn left" in browser.run("document.getElementById('keys').innerText"), "keys bear the actions' names")
    browser.key("ArrowLeft", "keyDown")
    browser.wait("now.row[0] === 1", "the left arrow turns left")
    browser.key("ArrowUp", "keyDown")
    browser.wait("now.row[0] === 3", "the newest key counts")
    browser.key("ArrowUp", "keyUp")
    browser.wait("now.row[0] === 1", "and the older one when it is let go")
    start = frame(browser)
    browser.wait(f"now.frame > {start} + 6", "turning")
    browser.screenshot(folder / "doom_left.png")
    browser.key("ArrowLeft", "keyUp")
    browser.wait("now.row[0] === 0", "nothing is done when no key is held")
    browser.run(f"({GAMEPAD})([-1, 0, 0, 0], [])")
    browser.wait("now.row[0] === 1", "a gamepad's stick turns")
    browser.run("navigator.getGamepads = () => []")
    browser.wait("now.row[0] === 0", "until it is let go")
    moved = {}
    for key in ("ArrowLeft", "ArrowRight"):
        browser.run("document.getElementById('restart').click()")
        browser.wait("now.frame < 8", "from the beginning")
        hold(browser, key, 2)
        browser.run(WATCH)
        hold(browser, key, 10)
        moved[key] = browser.run(SHIFT)
        print(f"      {key}: the picture moved by {moved[key]:+.0f} pixels")
    check(moved["ArrowLeft"] > 5 and moved["ArrowRight"] < -5, "what is seen moves against the turn")


def told(browser, server, folder):
    browser.open(server.url)
    browser.wait("typeof now === 'object' && now && now.frame > 6", "a world of words: frames come")
    check(browser.run("!document.getElementById('words').hidden && !document.querySelectorAll('.key').length"), "there are words, and no keys")
    browser.run("document.getElementById('fork').click()")
    browser.wait("now.worlds === 2", "the world is forked")
    start = frame(browser)
    browser.wait(f"now.frame > {start} + 20", "both go on")
    check(browser.run(f"({PAINT})(0) === ({PAINT})(1)"), "alike")
    browser.run("(w => { w.value = 'a door opens'; w.form.requestSubmit(); })(document.getElementById('prompt'))")
    browser.wait("/follows your words/.test(document.getElementById('told').innerText)", "one is told something else")
    start = frame(browser)
    browser.wait(f"now.frame > {start} + 20", "both go on")
    check(browser.run(f"({PAINT})(0) !== ({PAINT})(1)"), "and part")
    browser.screenshot(folder / "words.png")


def blocks(browser, server, folder):
    browser.open(server.url)
    browser.wait("typeof now === 'object' && now && now.hz", "a world of blocks: they come")
    browser.run("drawn = [], plain = draw, draw = (header, pixels, which) => { drawn.push(`${header.frame} ${which}`); plain(header, pixels, which); }, 0")
    browser.wait("[...Array(now.frames).keys()].every(i => drawn.some(each => each.endsWith(' ' + i)))", "every frame of a block is shown")
    check(browser.run("now.frames") > 1 and browser.run("drawn.every((each, i, all) => !i || each !== all[i - 1])"), "one after the other")
    check("look around" in browser.run("document.getElementById('hint').innerText"), "the page says what a mouse does")
    box = browser.run("(b => [b.left, b.top, b.width, b.height])(document.getElementById('canvas0').getBoundingClientRect())")
    browser.key("w", "keyDown")
    browser.mouse("mousePressed", box[0] + box[2] * 0.9, box[1] + box[3] * 0.5)
    browser.wait("now.row[0] === 1 && now.row[5] > 0.05 && Math.abs(now.row[4]) < 0.01", "keys walk while the mouse turns")
    browser.screenshot(folder / "blocks.png")
    browser.mouse("mouseReleased", box[0] + box[2] * 0.9, box[1] + box[3] * 0.5, buttons=0)
    browser.wait("now.row[0] === 1 && now.row[5] === 0", "a mouse that is let go turns no more")
    browser.key("w", "keyUp")
    browser.wait("now.row[0] === 0", "and the walk ends with its key")


def lander(browser, server, folder):
    browser.open(server.url)
    browser.wait("typeof now === 'object' && now && now.frame > 22", "a world of measured states goes on")
    check(browser.run("document.getElementById('picture').parentNode.hidden"), "no picture is asked for")
    browser.key("ArrowUp", "keyDown")
    browser.wait("now.row[0] === 2", "the main engine burns")
    browser.screenshot(folder / "lander.png")
    browser.key("ArrowUp", "keyUp")


def telephone(browser, server, folder):
    target = browser.open(server.url, width=412, height=860, touch=True)
    browser.wait("typeof now === 'object' && now && now.frame > 6", "on a telephone: frames come")
    browser.run("document.querySelector('.key[data-key=ArrowUp]').scrollIntoView({block: 'center'})")
    box = browser.run("(b => [b.left + b.width / 2, b.top + b.height / 2])(document.querySelector('.key[data-key=ArrowUp]').getBoundingClientRect())")
    browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": box[0], "y": box[1]}])
    browser.wait("now.row[0] === 3", "a finger on a key presses it")
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.wait("now.row[0] === 0", "and lets it go")
    browser.run("scrollTo(0, 0)")
    browser.screenshot(folder / "doom_telephone.png")
    session, browser.session = browser.session, None
    browser.call("Target.closeTarget", targetId=target)


def main():
    program, worlds, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        print("skipped: there is no Chromium here (third_party/setup.sh --dev installs it)")
        sys.exit(77)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        browser = Chromium(chromium, profile)
        try:
            with Server(program, worlds / "pusht") as server:
                pusht(browser, server, folder)
            with Server(program, worlds / "doom") as server:
                doom(browser, server, folder)
                telephone(browser, server, folder)
            with tempfile.TemporaryDirectory() as place:
                with Server(program, *world_of_blocks(pathlib.Path(place))) as server:
                    blocks(browser, server, folder)
                with Server(program, worlds / "lunarlander") as server:
                    lander(browser, server, folder)
                with Server(program, world_of_words(pathlib.Path(place)), "--prompt", "a red car") as server:
                    told(browser, server, folder)
        finally:
            browser.end()
    print(f"screenshots: {folder}")


if __name__ == "__main__":
    main()
