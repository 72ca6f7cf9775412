// What a browser says of a page: node check.mjs PAGE.html [SCREENSHOTS]; prints JSON.
// Chromium comes from the system (CHROMIUM, or /usr/bin/chromium); playwright-core and axe-core from
// package.json beside this file.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const PATIENCE_MS = 120_000; // of a busy machine
const [pagePath, screenshots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const profile = mkdtempSync(join(tmpdir(), "vididi-browser-"));
const address = pathToFileURL(resolve(pagePath)).href;
const found = { requests: [], console: [], dialogs: 0, widths: {} };

const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  timeout: PATIENCE_MS,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

/* The texts of a column of a table, from above. */
const column = (page, table, index) => page.locator(table).first().evaluate(
  (element, i) => Array.from(element.tBodies[0].rows, row => row.cells[i].firstChild?.textContent.trim() ?? ""),
  index,
);

async function sorting(page, table) {
  const heading = page.locator(`${table} thead th.number`).first(), button = heading.locator("button");
  const index = await heading.evaluate(element => element.cellIndex);
  const result = { before: await column(page, table, index), sorts: [] };
  const note = async () => result.sorts.push({
    aria: await heading.getAttribute("aria-sort"), texts: await column(page, table, index),
  });
  await button.click();
  await note();
  await button.focus();
  await page.keyboard.press("Enter");
  await note();
  await page.keyboard.press("Space");
  await note();
  return result;
}

async function enlarging(page) {
  const thumbnail = page.locator(".thumbnail").first();
  if (!await thumbnail.count()) return null;
  await thumbnail.focus();
  await page.keyboard.press("Enter");
  const open = await page.locator("#enlarged").evaluate(dialog => dialog.open);
  await page.keyboard.press("Escape");
  const closed = !await page.locator("#enlarged").evaluate(dialog => dialog.open);
  return { open, closed, back: await thumbnail.evaluate(button => button === document.activeElement) };
}

try {
  const page = context.pages()[0] ?? await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("request", request => {
    if (request.url() !== address && !request.url().startsWith("data:")) found.requests.push(request.url());
  });
  page.on("console", message => {
    if (["error", "warning"].includes(message.type())) found.console.push(message.text());
  });
  page.on("pageerror", error => found.console.push(String(error)));
  page.on("dialog", dialog => { found.dialogs += 1; dialog.dismiss(); });

  for (const width of [390, 1440]) {
    await page.setViewportSize({ width, height: 900 });
    await page.goto(address);
    if (width === 1440) {
      found.sorting = await sorting(page, "#results table");
      found.enlarging = await enlarging(page);
    }
    await page.evaluate(() => document.querySelectorAll("details").forEach(part => { part.open = true; }));
    await page.evaluate(axe);
    const violations = await page.evaluate(async () => (await window.axe.run(document)).violations.map(
      rule => `${rule.id}: ${rule.nodes.map(node => node.html.slice(0, 120)).slice(0, 3).join(" | ")}`,
    ));
    found.widths[width] = {
      page: await page.evaluate(() => document.documentElement.scrollWidth),
      lines: await page.locator("#coordinates path").count(),
      violations,
    };
    if (screenshots) await page.screenshot({ path: join(screenshots, `${width}.png`), fullPage: true });
  }
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(found));
