"""Take the picture of the demo's page for the README: run Arcade, log in, spin a little, look.

    python tools/screenshot_demo.py                                   docs/demo.png, 1280 pixels wide
    python tools/screenshot_demo.py --width 375 --dark --out x.png    a phone at night

It needs a Chromium: $CHROMIUM, else /usr/bin/chromium, else Playwright's own.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    """Where the browser is; ``None`` leaves it to Playwright."""
    path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    return path if Path(path).exists() else None


def main() -> None:
    """Run the demo, take the picture, stop the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "demo.png")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=0, help="pixels; 0: the whole page (default)")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--welcome", action="store_true", help="before logging in")
    parser.add_argument("--refused", action="store_true", help="while the spins are over the limit")
    options = parser.parse_args()
    demo = subprocess.Popen(
        [sys.executable, "-m", "demo", "--players", "14", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert demo.stdout is not None
        address = demo.stdout.readline().split()[-1]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            page = browser.new_page(
                viewport={"width": options.width, "height": options.height or 640},
                color_scheme="dark" if options.dark else "light",
                reduced_motion="reduce",  # or rows are caught on their way
            )
            page.goto(address)
            page.locator("#top tr").nth(9).wait_for(timeout=30_000)
            if not options.welcome:
                play(page, options.refused)
            page.screenshot(path=options.out, full_page=not options.height)
            browser.close()
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


def play(page: Page, until_refused: bool) -> None:
    """Log in and spin until the screen has something to show: a rank among the first ten, or a refusal."""
    page.fill("#name", "You and me")
    page.click("#enter button")
    page.locator("#spin").wait_for()
    for _ in range(60):
        page.click("#spin", timeout=20_000)
        page.locator("#reels.spinning").wait_for(state="detached")
        if page.locator("#wait").is_visible():
            if until_refused:
                return
            page.locator("#wait").wait_for(state="hidden")
        elif not until_refused and page.locator("#top tr.me").count():
            break
    page.locator("#jackpot[data-open=true]").wait_for(timeout=20_000)


if __name__ == "__main__":
    main()
