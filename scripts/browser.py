"""Looks at the graph in a browser: what a person sees who opens Dagster.

    make browser                       # or: python scripts/browser.py --out browser

Starts `dagster dev` on a toy project in a temporary folder, opens the graph in Chromium without a
window, materialises a release, reads the checks and the pictures in the metadata, and keeps
screenshots. It needs Chromium and its driver (on Debian: chromium and chromium-driver), so it is no
part of `make test`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from dagster_project.audits import toys

ROOT = Path(__file__).parents[1]
DEFINITIONS = """\
from pathlib import Path

import dagster as dg

from dagster_project.audits import toys
from dagster_project.orchestration.definitions import build_definitions

CONFIG = {{
    "ops": {{
        "privacy_plan": {{
            "config": {{
                "epsilon": toys.EPSILON, "delta": toys.DELTA, "settings": toys.SETTINGS
            }}
        }},
        "synthetic_release": {{"config": {{"n": toys.PAIRS, "seed": 1}}}},
        "fidelity_report": {{"config": {{"extractor": "pixels"}}}},
    }},
}}
toy = dg.define_asset_job("toy", selection=dg.AssetSelection.all(), config=CONFIG)
definitions = dg.Definitions.merge(
    build_definitions(Path({root!r})), dg.Definitions(jobs=[toy], executor=dg.in_process_executor)
)
"""
CHECKS = {
    "dataset": "files_match_schema",
    "privacy_plan": "within_budget",
    "pairs": "records_fit_schema",
}
WINDOW = (1600, 1000)
WIDTHS = """
    const all = [...document.images].filter(i => i.src.startsWith("data:"));
    return all.length && all.every(i => i.naturalWidth > 0) ? all.map(i => i.naturalWidth) : null;
"""
START_SECONDS, RUN_SECONDS, PAGE_SECONDS = 180, 900, 60


def main() -> None:
    """Run the command line of this script."""
    parser = argparse.ArgumentParser(description="Looks at the graph in a browser.")
    parser.add_argument("--out", type=Path, default=ROOT / "browser", help="for screenshots")
    arguments = parser.parse_args()
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if absent := [name for name, path in programs.items() if path is None]:
        parser.exit(2, f"{' and '.join(absent)} not found (Debian: chromium, chromium-driver)\n")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        toys.write_project(Path(place))
        with served(Path(place)) as address, browser(*map(str, programs.values())) as driver:
            look(Page(driver, address, arguments.out))
    print(f"screenshots in {arguments.out}/")


class Page:
    """One browser window on Dagster."""

    def __init__(self, driver: webdriver.Chrome, address: str, out: Path) -> None:
        self.driver, self.address, self.out = driver, address, out

    def open(self, path: str) -> None:
        """Open a page by its path."""
        self.driver.get(self.address + path)

    def text(self) -> str:
        """Return what a person can read."""
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def wait(self, what: str, seen: Callable[[], Any], seconds: int = PAGE_SECONDS) -> Any:
        """Wait until something is seen; fail with its name and a screenshot if it never is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := seen():
                    return found
            except WebDriverException:
                pass  # the page is drawn again while it is read
            time.sleep(0.5)
        self.keep("failed")
        raise SystemExit(f"browser: {what} was not seen within {seconds} s; see failed.png")

    def words(self, *wanted: str, seconds: int = PAGE_SECONDS) -> None:
        """Wait until all of these words can be read."""
        self.wait(", ".join(wanted), lambda: all(w in self.text() for w in wanted), seconds)

    def click(self, label: str) -> None:
        """Click what has this label, once it can be clicked."""
        path = f"//*[text()[contains(., '{label}')]]"

        def clicked() -> bool:
            self.driver.find_element(By.XPATH, path).click()
            return True

        self.wait(label, clicked)

    def press(self, modifier: str, key: str) -> None:
        """Press a key together with another one."""
        ActionChains(self.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def keep(self, name: str) -> None:
        """Keep a screenshot."""
        time.sleep(1)  # for what fades in
        self.driver.save_screenshot(str(self.out / f"{name}.png"))


def look(page: Page) -> None:
    """Open the graph, materialise the release, read checks and pictures."""
    page.open("/asset-groups~")
    page.words("private", "dp", "public", "Materialize all")
    page.keep("graph-before")
    page.open("/locations/definitions.py/jobs/toy")
    page.click("Materialize all")
    # In another tab, so that the click's request is not given up.
    page.driver.switch_to.new_window("tab")
    page.driver.get(page.wait("the run", lambda: _run(page)))
    page.words("Success", seconds=RUN_SECONDS)
    page.keep("run")
    page.open("/asset-groups~")
    page.words("private", "dp", "public", "Materialize all")
    page.driver.set_window_size(2600, 1500)
    page.press(Keys.ALT, "e")  # unfolds every zone
    page.words("minimum_people", "image_model", "fidelity_report")
    page.keep("graph")
    page.driver.set_window_size(*WINDOW)
    for asset, check in CHECKS.items():
        page.open(f"/assets/{asset}?view=checks")
        page.words(check, "Passed")
        page.keep(f"check-{check}")
    page.open("/assets/synthetic_release?view=overview")
    page.words("Latest materialization", "synthetic pairs")
    page.keep("metadata")
    page.click("Show Markdown")
    shown = page.wait("pictures", lambda: page.driver.execute_script(WIDTHS))
    page.keep("pictures")
    print(f"{len(CHECKS)} checks passed, {len(shown)} sheets of pictures of widths {shown}")


def _run(page: Page) -> str:
    page.open("/runs")
    time.sleep(2)
    links = page.driver.find_elements(By.CSS_SELECTOR, "a[href*='/runs/']")
    return next((str(link.get_attribute("href")) for link in links), "")


@contextmanager
def served(root: Path) -> Iterator[str]:
    """Serve the graph of the toy project; yield its address."""
    file = root / "definitions.py"
    file.write_text(DEFINITIONS.format(root=str(root)), encoding="utf-8")
    home = root / ".dagster"
    home.mkdir()
    shutil.copy(ROOT / "dagster_project" / "orchestration" / "dagster.yaml", home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dagster", "dev", "-f", str(file), "-p", port]
    with (root / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + START_SECONDS
        while not _answers(address):
            if server.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"browser: no server\n{(root / 'server.log').read_text()[-2000:]}")
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its code servers and daemon too
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def browser(chromium: str, chromedriver: str) -> Iterator[webdriver.Chrome]:
    """Open a browser without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    window = f"window-size={WINDOW[0]},{WINDOW[1]}"
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", window):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield driver
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
