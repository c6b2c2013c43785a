"""A headless Chromium for the tests of the page: opens files, collects what went wrong, reads pixels."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)
HOW = "install Debian's chromium and chromium-driver, and selenium"


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A driver; the test is skipped where there is no browser, unless ELIMTOOL_BROWSER_TESTS=required."""
    binary, service = (
        shutil.which("chromium") or shutil.which("chromium-browser"),
        shutil.which("chromedriver"),
    )
    if not binary or not service:
        if os.environ.get("ELIMTOOL_BROWSER_TESTS") == "required":
            pytest.fail(f"no chromium or no chromedriver: {HOW}")
        pytest.skip(f"no chromium or no chromedriver: {HOW}")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """One page in the browser.

    Args:
        driver: From ``chromium``.
        path: The file.
    """

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.path = path

    @property
    def own(self) -> str:
        """Beginning of the page's own addresses."""
        return self.path.as_uri()

    def open(self, address: str = "", width: int = 1280, height: int = 900) -> Page:
        """Load the file afresh, with no network to be had."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "light"}]})  # fmt: skip
        self.driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        self.driver.get_log("performance"), self.driver.get_log("browser")
        self.driver.get(self.path.as_uri() + address)
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        """Elements of a selector."""
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        """The first of them."""
        return self.driver.find_element("css selector", selector)

    def wait(self, script: str, seconds: float = 10.0) -> Any:
        """The value of a script as soon as it is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda _: self.run(script))

    def press(self, element: Any, changed: str) -> None:
        """Click an element until a script is true: what is drawn above may move it from under a click."""
        from selenium.common.exceptions import ElementClickInterceptedException, TimeoutException

        for last in (False, False, True):
            self.run("arguments[0].scrollIntoView({block: 'center'})", element)
            try:
                element.click()
                self.wait(changed)
            except (TimeoutException, ElementClickInterceptedException):
                if last:
                    raise
            else:
                return

    def draw_all(self) -> Page:
        """Draw the figures that are far below the screen too."""
        self.run("document.querySelectorAll('.holder').forEach((holder) => holder.draw())")
        self.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self

    def hover(self, element: Any, right: int = 0) -> str:
        """The tooltip with the pointer on an element's middle, or so many pixels to the right of it."""
        from selenium.webdriver.common.action_chains import ActionChains

        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.driver, duration=0).move_to_element_with_offset(element, right, 0).perform()
        return str(
            self.run("const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.textContent")
        )

    def colours(self, element: Any) -> dict[str, int]:
        """How often each colour occurs in the picture of an element, as ``#rrggbb``."""
        from PIL import Image

        # of an element that is in view by a few pixels the driver pictures these alone
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        image = Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")
        found = image.getcolors(image.width * image.height) or []
        return {"#{:02x}{:02x}{:02x}".format(*colour): count for count, colour in found}

    def requests(self) -> list[str]:
        """Addresses asked for since ``open``, other than the file itself."""
        sent = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [
            one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith((self.own, "data:", "blob:"))]


def faults(page: Page) -> list[str]:
    """Everything wrong with an opened page: not ready, console errors, requests, empty figures."""
    found = []
    if page.run("return document.documentElement.dataset.ready") is None:
        found.append("the page did not get ready")
    else:
        page.draw_all()
        if not page.all("[data-figure]"):
            found.append("there is no figure")
    found += [f"{figure.get_attribute('data-figure')} drew nothing" for figure in page.all("[data-figure]")
              if not _drew(page, figure)]  # fmt: skip
    found += [
        f"console: {entry['message']}"
        for entry in page.driver.get_log("browser")
        if entry["level"] == "SEVERE"
    ]
    return found + [f"request: {url}" for url in page.requests()]


def _drew(page: Page, figure: Any) -> bool:
    """Whether one in 400 pixels, at least, is of one of the palette's colours; a listing has text alone."""
    palette = page.run(
        "const style = getComputedStyle(document.documentElement);"
        "return [...Array(8).keys()].map((i) => style.getPropertyValue(`--heat-${i}`).trim())"
        ".concat([...Array(9).keys()].map((i) => style.getPropertyValue(`--shift-${i}`).trim()))"
        ".concat([...Array(6).keys()].map((i) => style.getPropertyValue(`--line-${i}`).trim()))"
    )
    found = page.colours(figure)
    total = sum(found.values())
    if figure.get_attribute("class").startswith("scroll"):
        return len(found) > 2
    paper = page.run("return getComputedStyle(document.body).backgroundColor")
    plain = "#{:02x}{:02x}{:02x}".format(*(int(part) for part in paper[4:-1].split(",")))
    return sum(found.get(colour, 0) for colour in {*palette} - {plain}) > total / 400
