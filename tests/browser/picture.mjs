// A picture of a page: node picture.mjs ADDRESS PICTURE.png [WIDTH HEIGHT [SELECTOR ...]]
// What the selectors find is clicked in turn, when the page stands still, before the picture is taken.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [address, picture, width = "1400", height = "900", ...clicks] = process.argv.slice(2);
const PAUSE_MS = 15_000; // for a page that loads as it is looked at
const profile = mkdtempSync(join(tmpdir(), "vididi-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  timeout: 120_000,
  viewport: { width: Number(width), height: Number(height) },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
});
try {
  const page = await context.newPage();
  await page.goto(address, { waitUntil: "networkidle", timeout: 120_000 });
  await page.waitForTimeout(PAUSE_MS);
  for (const selector of clicks) await page.locator(selector).first().click();
  if (clicks.length) await page.waitForTimeout(PAUSE_MS);
  await page.screenshot({ path: picture, timeout: 240_000 });
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
