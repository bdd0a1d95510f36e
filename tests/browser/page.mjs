// The status page in a real browser, against a worker whose reading needs a token. Prints what it found; exits with 1 and the
// reason otherwise. Environment: PAGE (address), TOKEN, OUT (folder for screenshots), PUSHER_BROWSER_HOME (playwright, axe).
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { PAGE, TOKEN, OUT, PUSHER_BROWSER_HOME } = process.env;
const require = createRequire(join(PUSHER_BROWSER_HOME, "here.js"));
const { chromium } = require("playwright-core");
const axe = require("axe-core");
const PHONE = { width: 390, height: 844 }, NARROW = { width: 320, height: 640 }, HALF = { width: 1024, height: 900 }, DESK = { width: 1280, height: 900 };

const profile = mkdtempSync(join(tmpdir(), "pusher-page-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  viewport: DESK,
  colorScheme: "dark",
  reducedMotion: "reduce",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const requests = [], complaints = [];
function watch(page) {
  page.on("request", request => requests.push(request.url()));
  page.on("pageerror", error => complaints.push(String(error)));
  page.on("console", message => { if (message.type() === "error") complaints.push(message.text()); });
}
const said = (page, id) => page.textContent("#" + id);
const live = page => page.waitForFunction(() => document.getElementById("link").textContent === "live");

async function ask_for_the_token(page) {
  await page.goto(PAGE);
  await page.waitForSelector("#login:not([hidden])");
  assert.equal(await page.isVisible("#board"), false, "nothing is shown before the token");
  await page.fill("#token", "wrong");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("login-said").textContent === "This is not the token.");
  await page.fill("#token", TOKEN);
  await page.keyboard.press("Enter");
  await live(page);
  assert.equal(await page.evaluate(() => localStorage.length), 0, "the token lives as long as the tab");
  // The browser says that somebody was refused; that is what was tried.
  assert.ok(complaints.length > 0 && complaints.every(line => line.includes("401")), complaints.join("\n"));
  complaints.length = 0;
}

async function moves(page) {
  const consumed = async () => Number((await said(page, "ledger")).match(/^([\d,]+) consumed/)[1].replaceAll(",", ""));
  const first = await consumed();
  await page.waitForFunction(before => Number(document.getElementById("ledger").textContent.match(/^([\d,]+) consumed/)[1].replaceAll(",", "")) > before, first);
  const second = await consumed();
  await page.waitForFunction(before => Number(document.getElementById("ledger").textContent.match(/^([\d,]+) consumed/)[1].replaceAll(",", "")) > before, second);
  assert.match(await said(page, "ledger-says"), /^It balances/);
  assert.match(await said(page, "headline"), /^All well$/);
  assert.match(await page.getAttribute("#charts svg", "aria-label"), /^Delivered.*: now [\d.,]+, highest/);
  console.log(`live: ${first} consumed, then ${await consumed()}`);
}

async function by_keyboard(page) {
  await page.reload();
  await live(page);
  const focus = () => page.evaluate(() => {
    const node = document.activeElement, style = getComputedStyle(node);
    return { name: node.id || node.textContent.trim().slice(0, 40), tag: node.tagName, outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 };
  });
  await page.keyboard.press("Tab");
  assert.match((await focus()).name, /^Skip to the state/);
  await page.keyboard.press("Enter");
  assert.equal((await focus()).name, "state", "the skip link leads to the state");
  const passed = [];
  for (let step = 0; step < 60; step++) {
    await page.keyboard.press("Tab");
    const one = await focus();
    if (one.tag === "BODY") break;
    assert.ok(one.outline, `focus on ${one.name} is visible`);
    passed.push(one.name);
    if (one.tag === "SUMMARY") {
      const open = () => page.evaluate(() => document.getElementById("parts-details").open);
      const before = await open();
      await page.keyboard.press("Enter");
      assert.equal(await open(), !before, "Enter opens and closes the partitions");
      await page.keyboard.press("Enter");
    }
  }
  for (const wanted of [/^Partitions/, /^api\/status$/, /^metrics$/]) assert.ok(passed.some(name => wanted.test(name)), `${wanted} by keyboard: ${passed}`);
  console.log(`by keyboard: ${passed.join(" → ")}`);
}

// A lane is paused and resumed by keyboard, with a second look in between.
async function gives_orders(page) {
  const row = page.locator("#apps tbody tr", { hasText: "game apns massive" }), button = row.locator("button");
  await button.focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("#order[open]");
  assert.match(await said(page, "order-title"), /^Pause game apns massive\?$/);
  await accessible(page, "the dialog");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#order[open]").count(), 0, "Escape leaves it as it is");
  assert.equal(await button.textContent(), "Pause");
  await page.keyboard.press("Enter");
  await page.fill("#order-why", "wrong text in the campaign");
  await page.fill("#order-who", "ann");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("headline").textContent === "Nothing to do, but look");
  assert.match(await said(page, "problems"), /game on apns, lane massive, is paused by ann at .*: wrong text in the campaign/);
  assert.equal(await button.textContent(), "Resume");
  await page.screenshot({ path: join(OUT, "dark-paused.png") });
  await button.click();
  await page.click("#order-do");
  await page.waitForFunction(() => document.getElementById("headline").textContent === "All well");
  assert.equal(await button.textContent(), "Pause");
  console.log("a lane was paused and resumed");
}

// The busiest job is stopped, which is said on top with who and why, and sent again.
async function stops_a_job(page) {
  const id = (await page.locator("#jobs tbody tr th").first().textContent()).trim();
  const row = page.locator("#jobs tbody tr", { has: page.locator("th", { hasText: new RegExp(`^${id}$`) }) });
  const cell = label => row.locator(`td[data-label="${label}"]`), button = row.locator("button");
  assert.equal(await cell("State").textContent(), "sent");
  assert.match(await cell("Delivered").textContent(), /^[\d,]+$/);
  assert.equal(await button.textContent(), "Stop");
  await button.click();
  assert.equal(await said(page, "order-title"), `Stop job ${id}?`);
  await page.fill("#order-why", "wrong segment");
  await page.fill("#order-who", "ann");
  await page.click("#order-do");
  await page.waitForFunction(() => document.getElementById("headline").textContent === "Nothing to do, but look");
  assert.match(await said(page, "problems"), new RegExp(`Job ${id} is stopped by ann at .*: wrong segment`));
  await page.waitForFunction(() => /cancelled/.test(document.getElementById("ledger").textContent));
  assert.equal(await cell("State").textContent(), "stopped");
  await page.waitForFunction(id => [...document.querySelectorAll("#jobs tbody tr")].some(row =>
    row.firstElementChild.textContent === id && Number(row.querySelector('td[data-label="Cancelled"]').textContent.replaceAll(",", "")) > 0), id);
  assert.equal(await button.textContent(), "Send again");
  await button.click();
  await page.click("#order-do");
  await page.waitForFunction(() => document.getElementById("headline").textContent === "All well");
  assert.equal(await cell("State").textContent(), "sent");
  console.log(`job ${id} was stopped and sent again`);
}

// Every cell says what the document says: one in which much is wrong, told once.
async function says_what_is_wrong() {
  const page = await context.newPage();
  watch(page);
  const status = await (await fetch(PAGE + "api/status", { headers: { authorization: "Bearer " + TOKEN } })).json();
  const app = status.apps[0], lane = app.lanes[0], order = { at_ms: status.at_ms, by: "bob", why: "wrong text" };
  status.apps = [app]; app.lanes = [lane];
  Object.assign(app, { app: "game", platform: "apns", breaker: "open", valve: "closed", retries_waiting: 1234 });
  Object.assign(lane, {
    lane: "single", paused: null, consumed_per_s: 7.25, delivered_per_s: 120.6, not_delivered_per_s: 0, in_flight: 42, backlog: 98765, backlog_age_s: 3725,
    accepted: { p50_ms: 4.5, p99_ms: 2500 }, round_trip: { p50_ms: 1, p99_ms: 31 },
    reasons: [{ outcome: "rejected", reason: "bad-token", count: 1200 }, { outcome: "failed", reason: "timeout", count: 3 }],
  });
  Object.assign(lane.outcomes, { delivered: 5000, rejected: 1200, failed: 3 });
  status.jobs = [
    { id: "autumn", stopped: null, delivered: 1000, cancelled: 0, otherwise: 12, ended_per_s: 33.3, idle_s: 0.4 },
    { id: "winter", stopped: order, delivered: 5, cancelled: 77, otherwise: 0, ended_per_s: 0, idle_s: 90 },
  ];
  status.pools = [{ platform: "apns", pool: "game", open: 3, draining: 1, connecting: 2, streams: 250, waiting: 17, connect_failures: 4, goaways: 5, lost: 6 }];
  status.problems = [
    { urgency: "act", what: "The breaker of game on apns is open", remedy: "Look at the provider" },
    { urgency: "watch", what: "Job winter is stopped by bob: wrong text", remedy: "To send what comes: the button below" },
  ];
  const body = `event: status\ndata: ${JSON.stringify(status)}\n\n`;
  await page.addInitScript(([key, token]) => sessionStorage.setItem(key, token), ["pusher-admin-token", TOKEN]);
  await page.route("**/api/events", route => route.fulfill({ status: 200, contentType: "text/event-stream", body }));
  await page.route("**/api/history", route => route.fulfill({ status: 200, contentType: "application/json", body: `{"samples":[]}` }));
  await page.goto(PAGE);
  await page.waitForFunction(() => document.getElementById("headline").textContent === "One thing needs you");
  const rows = id => page.evaluate(id => [...document.querySelectorAll(`#${id} tbody tr`)].map(row => [row.firstElementChild.textContent,
    Object.fromEntries([...row.querySelectorAll("td[data-label]")].map(cell => [cell.dataset.label, cell.textContent]))]), id);
  const [[name, cells]] = await rows("apps");
  assert.equal(name, "game apns single");
  const { Order: pause, "15 min": chart, ...numbers } = cells;
  assert.deepEqual(numbers, {
    "Read/s": "7.3", "Delivered/s": "121", "Other/s": "0", "In flight": "42", "Retries": "1,234", "Backlog": "98,765", "Age": "1 h 2 min",
    "p50": "4.5 ms", "p99": "2.5 s", "Request p99": "31 ms", "Breaker": "open", "Valve": "closed",
  });
  assert.deepEqual([pause, chart], ["Pause", ""]);
  const look = label => page.locator(`#apps td[data-label="${label}"] span`).getAttribute("class");
  assert.deepEqual([await look("Breaker"), await look("Valve")], ["badge is-act", "badge is-act"]);
  assert.deepEqual(await rows("jobs"), [
    ["autumn", { "State": "sent", "Ended/s": "33.3", "Delivered": "1,000", "Cancelled": "0", "Other": "12", "Seen": "0 s ago", "Order": "Stop" }],
    ["winter", { "State": "stopped", "Ended/s": "0", "Delivered": "5", "Cancelled": "77", "Other": "0", "Seen": "1 min 30 s ago", "Order": "Send again" }],
  ]);
  assert.deepEqual(await rows("pools"), [
    ["apns game", { "Open": "3", "Connecting": "2", "Draining": "1", "Streams": "250", "Waiting": "17", "Failed connects": "4", "GOAWAYs": "5", "Lost": "6" }],
  ]);
  const [[, ends]] = await rows("ends");
  assert.deepEqual([ends.delivered, ends.rejected, ends.failed, ends.Reasons], ["5,000", "1,200", "3", "bad-token 1,200, timeout 3"]);
  assert.match(await said(page, "problems"), /The breaker of game on apns is openLook at the provider.*Job winter is stopped by bob: wrong text/);
  await page.close();
  console.log("cells say what the document says");
}

async function accessible(page, what) {
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  const serious = found.violations.filter(one => ["serious", "critical"].includes(one.impact));
  const shown = list => list.map(one => `${one.id} (${one.impact}): ${one.nodes.map(node => node.html).slice(0, 3).join(" ")}`).join("\n");
  assert.equal(serious.length, 0, `${what}:\n${shown(serious)}`);
  console.log(`axe, ${what}: ${found.passes.length} rules passed, ${found.violations.length} lesser findings ${shown(found.violations)}`);
}

// Also with wider numbers than a test has.
async function fits(page, size) {
  await page.setViewportSize(size);
  const [wide, has] = await page.evaluate(() => {
    const numbers = [...document.querySelectorAll("td.n")], before = numbers.map(cell => cell.textContent);
    numbers.forEach(cell => { if (/^\d/.test(cell.textContent)) cell.textContent = "12,345"; });
    const measured = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
    numbers.forEach((cell, i) => { cell.textContent = before[i]; });
    return measured;
  });
  assert.ok(wide <= has, `no scrolling sideways at ${size.width}: ${wide} of ${has}`);
}

async function looks(page) {
  for (const scheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    for (const [name, size] of [["desk", DESK], ["half", HALF], ["narrow", NARROW], ["phone", PHONE]]) {
      await fits(page, size);
      if (size === DESK || size === PHONE) await accessible(page, `${scheme} ${name}`);
      await page.evaluate(() => window.scrollTo(0, 0));
      await page.screenshot({ path: join(OUT, `${scheme}-${name}.png`) });
    }
  }
}

// Whatever a worker says is text.
async function takes_no_markup() {
  const page = await context.newPage();
  watch(page);
  const evil = `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`;
  const poison = value => Array.isArray(value) ? value.map(poison)
    : typeof value === "string" ? evil
    : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, poison(v)])) : value;
  const headers = { authorization: "Bearer " + TOKEN };
  const status = await (await fetch(PAGE + "api/status", { headers })).json();
  status.problems = [{ urgency: "act", what: "x", remedy: "x" }];
  const body = `event: status\ndata: ${JSON.stringify(poison(status))}\n\n`;
  await page.route("**/api/events", route => route.fulfill({ status: 200, contentType: "text/event-stream", body }));
  await page.route("**/api/history", route => route.fulfill({ status: 200, contentType: "application/json", body: `{"samples":[]}` }));
  await page.goto(PAGE);
  await page.waitForFunction(() => document.getElementById("who").textContent.includes("<img"));
  assert.equal(await page.locator("img").count(), 0);
  assert.notEqual(await page.title(), "taken");
  await page.close();
  console.log("markup from a worker stays text");
}

// An answer that stops is told, and found again.
async function comes_back(page) {
  await context.setOffline(true);
  await page.reload({ waitUntil: "commit" }).catch(() => {});
  await context.setOffline(false);
  await page.goto(PAGE);
  await live(page);
  let cut = true;
  await page.route("**/api/events", route => cut ? route.abort() : route.continue());
  await page.route("**/api/history", route => cut ? route.abort() : route.continue());
  await page.reload();
  await page.waitForFunction(() => document.getElementById("link").textContent.startsWith("no answer"));
  cut = false;
  await live(page);
  complaints.splice(0, complaints.length, ...complaints.filter(line => !/net::ERR_(INTERNET_DISCONNECTED|FAILED)/.test(line)));
  console.log("after a gap it is live again");
}

let page;
try {
  page = context.pages()[0] || await context.newPage();
  watch(page);
  await ask_for_the_token(page);
  await moves(page);
  await by_keyboard(page);
  await gives_orders(page);
  await stops_a_job(page);
  await looks(page);
  await comes_back(page);
  await says_what_is_wrong();
  await takes_no_markup();
  const foreign = requests.filter(url => !url.startsWith(PAGE) && !url.startsWith("data:"));
  assert.deepEqual(foreign, [], "nothing comes from outside");
  assert.ok(requests.length > 5);
  assert.deepEqual(complaints, [], "the browser has nothing to complain about");
  console.log(`${requests.length} requests, all to the worker`);
} catch (error) {
  console.error(error.stack);
  if (page) await page.screenshot({ path: join(OUT, "failed.png") }).catch(() => {});
  process.exitCode = 1;
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
