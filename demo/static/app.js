// The page of Arcade: log in, spin, claim, and a board that follows the server's events. No build step.
"use strict";

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const number = new Intl.NumberFormat("en");

let player = null; // who the server says we are
let jackpot = null; // the jackpot at the last news, with `opensAt` on our own clock
let busy = false;
let blockedUntil = 0; // no spin before that, by performance.now()
let blockedFor = 0;
let asking = -2000; // when we last asked for our own place

async function ask(path, content) {
  const start = performance.now();
  const request = content === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  };
  let response, answer;
  try {
    response = await fetch(path, request);
    answer = await response.json();
  } catch {
    return { status: 0, answer: { error: "No answer came. It may have worked: look at the board." } };
  }
  if (answer.worker) {
    $("trace").textContent = `Answered by worker ${answer.worker} in ${Math.round(performance.now() - start)} ms. ` +
      "Every worker knows you: sessions, limits, lock and board are Tetrad, on one Valkey server.";
  }
  if (answer.jackpot) showJackpot(answer.jackpot);
  return { status: response.status, answer };
}

function say(text, kind = "") {
  $("result").textContent = text;
  $("result").dataset.kind = kind;
}

function enter(answer) {
  player = answer.player;
  $("who").textContent = player || "";
  $("enter").hidden = Boolean(player);
  for (const id of ["leave", "play", "facts"]) $(id).hidden = !player;
  $("spins").textContent = number.format(answer.spins || 0);
  place(answer.around || []);
  for (const row of $("top").rows) mark(row);
  showJackpot();
}

// Our own place: in the figures, and below the top ten when we are not among them.
function place(around) {
  const mine = around.find((row) => row.player === player);
  $("score").textContent = mine ? number.format(mine.score) : "0";
  $("rank").textContent = mine ? number.format(mine.rank) : "–";
  $("mine").replaceChildren(...around.filter((row) => row.rank > 10).map((row) => fill(makeRow(), row)));
  $("mine").hidden = !mine || mine.rank <= 10;
}

function failed(status, answer) {
  if (status === 401) {
    enter({ player: null });
    say("Your session has ended. Log in again.", "bad");
  } else {
    say(answer.error, "bad");
  }
}

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { status, answer } = await ask("/api/login", { name: $("name").value });
  if (status !== 200) return failed(status, answer);
  enter(answer);
  say("");
  $("spin").focus();
});

$("leave").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { status, answer } = await ask("/api/logout", {});
  if (status !== 200) return failed(status, answer);
  enter(answer);
  say("You are logged out.");
  $("name").focus();
});

$("spin").addEventListener("click", async () => {
  if (busy || performance.now() < blockedUntil) return;
  busy = true;
  $("reels").className = calm ? "" : "spinning";
  const { status, answer } = await ask("/api/play", {});
  $("reels").className = "";
  busy = false;
  if (status === 429) return refuse(answer);
  if (status !== 200) return failed(status, answer);
  answer.reels.forEach((symbol, i) => document.querySelectorAll(".reel use")[i].setAttribute("href", `#${symbol}`));
  $("reels").setAttribute("aria-label", answer.reels.join(", "));
  const same = new Set(answer.reels).size;
  $("reels").className = same === 1 ? "win" : "";
  const climbed = (answer.previous_rank || answer.rank) - answer.rank;
  const up = climbed > 0 ? `, up ${climbed} ${climbed === 1 ? "place" : "places"}` : "";
  const points = `+${answer.points} ${answer.points === 1 ? "point" : "points"}`;
  say(`${["", "Three of a kind! ", "A pair: ", ""][same]}${points}${up}`, "good");
  $("score").textContent = number.format(answer.score);
  $("rank").textContent = number.format(answer.rank);
  $("spins").textContent = number.format(answer.spins);
  if (answer.rank > 10) {
    asking = -2000;
    findMe();
  }
});

// Over the limit: the server says how long, the button counts it down.
function refuse(answer) {
  blockedFor = answer.retry_after * 1000;
  blockedUntil = performance.now() + blockedFor;
  say(answer.error, "bad");
  $("spin").setAttribute("aria-disabled", "true");
  $("wait").hidden = false;
  countDown();
}

function countDown() {
  const left = blockedUntil - performance.now();
  $("spin").disabled = left > 0;
  $("wait").hidden = left <= 0;
  if (left > 0) {
    $("spin").textContent = `Wait ${(left / 1000).toFixed(1)} s`;
    $("bar").style.transform = `scaleX(${left / blockedFor})`;
    requestAnimationFrame(countDown);
  } else {
    $("spin").textContent = "Spin";
    $("spin").removeAttribute("aria-disabled");
    say("Go on.");
    if (document.activeElement === document.body) $("spin").focus();
  }
}

$("claim").addEventListener("click", async () => {
  const round = jackpot.round;
  $("claim").disabled = true;
  $("race").textContent = "Waiting for the lock…";
  const { status, answer } = await ask("/api/jackpot", { round });
  if (status !== 200) return failed(status, answer);
  const waited = Math.round((answer.acquired - answer.asked) * 1000);
  if (answer.won) say(`Round ${round} is yours: ${number.format(answer.prize)} coins!`, "good");
  else say(`Too late for round ${round}. You were in line for ${waited} ms.`, "bad");
});

function showJackpot(news) {
  if (news) jackpot = { ...news, opensAt: performance.now() + news.opens_in * 1000 };
  if (!jackpot) return;
  const seconds = Math.ceil((jackpot.opensAt - performance.now()) / 1000);
  const open = seconds <= 0;
  $("jackpot").dataset.open = open;
  $("round").textContent = `· round ${jackpot.round}`;
  $("prize").textContent = `${number.format(jackpot.prize)} coins`;
  $("race").textContent = open ? "Open now. Exactly one player will get it." : `Opens in ${seconds} s`;
  $("claim").disabled = !open || !player;
  $("claim").textContent = player ? "Claim it" : "Log in to claim";
  const last = jackpot.last;
  if (last) {
    const who = last.player === player ? "you" : last.player;
    $("last").textContent = `Round ${last.round} went to ${who}: ${number.format(last.prize)} coins`;
  }
}
setInterval(() => { if (jackpot && $("jackpot").dataset.open === "false") showJackpot(); }, 200);

// The board. Rows keep their identity, so that a player who climbs is seen climbing.
function makeRow() {
  const row = document.createElement("tr");
  for (let i = 0; i < 3; i += 1) row.append(document.createElement("td"));
  return row;
}

function fill(row, { rank, player: name, score }) {
  row.dataset.player = name;
  row.cells[0].textContent = rank;
  row.cells[1].textContent = name;
  const text = number.format(score);
  const cell = row.cells[2];
  if (cell.textContent && cell.textContent !== text && !calm) {
    const flash = getComputedStyle(row).getPropertyValue("--flash");
    cell.animate([{ backgroundColor: flash }, {}], { duration: 900, easing: "ease-out" });
  }
  cell.textContent = text;
  mark(row);
  return row;
}

function mark(row) {
  const mine = Boolean(player) && row.dataset.player === player;
  row.classList.toggle("me", mine);
  if (mine) row.setAttribute("aria-current", "true");
  else row.removeAttribute("aria-current");
  row.querySelector(".you")?.remove();
  if (!mine) return;
  const you = document.createElement("span");
  you.className = "you";
  you.textContent = "you";
  row.cells[1].append(you);
}

function showBoard({ top, count, jackpot: news }) {
  const old = new Map([...$("top").rows].map((row) => [row.dataset.player, [row, row.offsetTop]]));
  const rows = top.map((entry) => fill(old.get(entry.player)?.[0] || makeRow(), entry));
  if (rows.length !== old.size || rows.some((row, i) => row !== $("top").rows[i])) $("top").replaceChildren(...rows);
  for (const row of calm ? [] : rows) {
    const before = old.get(row.dataset.player)?.[1];
    const moved = before === undefined ? 0 : before - row.offsetTop;
    if (moved) row.animate([{ transform: `translateY(${moved}px)` }, {}], { duration: 350, easing: "ease-out" });
  }
  $("empty").hidden = count > 0;
  $("count").textContent = count ? `${number.format(count)} ${count === 1 ? "player" : "players"}` : "";
  showJackpot(news);
  const mine = top.find((entry) => entry.player === player);
  if (mine) place([mine]);
  else if (player) findMe();
}

async function findMe() {
  if (performance.now() < asking + 2000) return;
  asking = performance.now();
  const { status, answer } = await ask("/api/me");
  if (status === 200 && answer.player === player) place(answer.around);
}

function connection(state, text) {
  $("connection").dataset.state = state;
  $("connection").textContent = text;
}

const events = new EventSource("/api/events");
events.addEventListener("open", () => connection("live", "Live"));
events.addEventListener("error", () => connection("wait", "Reconnecting"));
events.addEventListener("board", (event) => {
  connection("live", "Live");
  showBoard(JSON.parse(event.data));
});
events.addEventListener("trouble", () => connection("down", "Server unreachable"));

ask("/api/me").then(({ status, answer }) => { if (status === 200) enter(answer); });
