"""The page of `orrery play` in a real headless Chromium: keys, mouse, touch, pause, rewind, fork, upload, recording. Screenshots stay behind.

    page_test.py build/bin/orrery examples/worlds build/play
Exit code 77: there is no Chromium here.
"""
import pathlib
import shutil
import sys
import tempfile

from playing import Chromium, Server, check

PAINT = """(index) => { const c = document.getElementById('canvas' + index), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let h = 0; for (let i = 0; i < d.length; i += 41) h = (h * 31 + d[i]) | 0; return h; }"""
# Where the picture is bluer than red and green: the pusher, as shares of the width and height.
PUSHER = """(() => { const c = document.getElementById('canvas0'), w = c.width, d = c.getContext('2d').getImageData(0, 0, w, c.height).data;
  let s = 1e-9, x = 0, y = 0; for (let i = 0; i < d.length; i += 4) { const b = Math.max(0, d[i + 2] - (d[i] + d[i + 1]) / 2 - 40);
  s += b; x += b * (i / 4 % w); y += b * Math.floor(i / 4 / w); } return [x / s / w, y / s / c.height]; })()"""


def frame(browser):
    return browser.run("now.frame")


def pusht(browser, server, folder):
    browser.open(server.url)
    browser.wait("typeof now === 'object' && now && now.frame > 6", "PushT: frames come")
    check(browser.run("document.querySelectorAll('.key').length") == 4, "four keys are labelled")
    check("target x" in browser.run("document.getElementById('keys').innerText"), "their labels come from the action space")
    before, row = browser.run(f"({PAINT})(0)"), browser.run("now.row[0]")
    browser.key("ArrowRight", "keyDown")
    browser.wait(f"now.row[0] >= {row} + 96", "a held arrow moves the target to the right, step by step")
    check(browser.run("document.querySelector('.key[data-key=ArrowRight]').classList.contains('held')"), "the key lights up")
    browser.key("ArrowRight", "keyUp")
    check(browser.run(f"({PAINT})(0)") != before, "the picture changes")
    box = browser.run("(b => [b.left, b.top, b.width, b.height])(document.getElementById('canvas0').getBoundingClientRect())")

    def aim(x, y):
        browser.mouse("mousePressed", box[0] + box[2] * x, box[1] + box[3] * y)
        browser.wait(f"Math.abs(now.row[0] - {512 * x}) < 8 && Math.abs(now.row[1] - {512 * y}) < 8", f"the mouse aims at {x}, {y}")
        browser.mouse("mouseReleased", box[0] + box[2] * x, box[1] + box[3] * y, buttons=0)
        start = frame(browser)
        browser.wait(f"now.frame > {start} + 14", "the world goes on")
        return browser.run(PUSHER)

    left = aim(0.2, 0.5)
    browser.screenshot(folder / "pusht_left.png")
    right = aim(0.8, 0.5)
    browser.screenshot(folder / "pusht_right.png")
    print(f"      the pusher went from x = {left[0]:.2f} to x = {right[0]:.2f} of the width when the mouse went from 0.2 to 0.8")
    if "--direction" in sys.argv:
        check(right[0] > left[0] + 0.1, "the pusher follows the mouse")
    check(browser.run("parseFloat(document.getElementById('latency').innerText) > 0 && parseFloat(document.getElementById('hz').innerText) > 0"), "frames per second and latency are shown")

    browser.key(" ", "keyDown")
    browser.key(" ", "keyUp")
    browser.wait("now.paused", "the space bar pauses")
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
        p.fillStyle = '#fff'; p.fillRect(0, 0, 90, 70); p.fillStyle = '#4169e1'; p.fillRect(20, 20, 9, 9); c.toBlob(b => b.arrayBuffer().then(a => { socket.send(a); done(1); })); })""")
    browser.wait("/your picture/.test(document.getElementById('told').innerText)", "a picture begins the world")


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
        finally:
            browser.end()
    print(f"screenshots: {folder}")


if __name__ == "__main__":
    main()
