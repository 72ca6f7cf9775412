// A picture of a page: node picture.mjs ADDRESS PICTURE.png [WIDTH HEIGHT [SCRIPT]]
// SCRIPT runs in the page when it stands still, before the picture is taken.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [address, picture, width = "1400", height = "900", script] = process.argv.slice(2);
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
  await page.waitForTimeout(5_000);
  if (script) {
    await page.evaluate(script);
    await page.waitForTimeout(8_000);
  }
  await page.screenshot({ path: picture, timeout: 240_000 });
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
