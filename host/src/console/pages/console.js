// Progressive enhancement of the pages: theme, live updates, keyboard shortcuts, folding, copying. The pages work
// without it.
"use strict";

(() => {
  const root = document.documentElement;
  const remembered = localStorage.getItem("theme");
  if (remembered === "light" || remembered === "dark") root.dataset.theme = remembered;
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);

  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const twoDigits = (number) => String(number).padStart(2, "0");
  const local = (stamp, millis) => {
    const time = new Date(stamp);
    const clock = `${twoDigits(time.getHours())}:${twoDigits(time.getMinutes())}:${twoDigits(time.getSeconds())}`;
    return millis ? `${clock}.${String(time.getMilliseconds()).padStart(3, "0")}` : clock;
  };

  // Converts times to the time zone of the browser and shows the buttons that need this script.
  function enhance(within) {
    all("time[datetime]", within).forEach((time) => (time.textContent = local(time.dateTime, true)));
    all("[data-time]", within).forEach((label) => (label.textContent = local(label.dataset.time, false)));
    all("[data-copy], [data-copy-address], [data-theme-toggle], [data-help], [data-pause], .fold", within).forEach(
      (button) => (button.hidden = false),
    );
  }

  // Live updates: after an event of the server the page requests itself again and replaces the parts that differ, at
  // most once a second and only while it is visible.
  const sources = new Map();
  let events = null;
  let due = null;
  let last = 0;
  let paused = false;

  function remember(within) {
    all("[data-refresh]", within).forEach((part) => sources.set(part.id, part.innerHTML));
  }

  async function refresh() {
    due = null;
    last = Date.now();
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    all("[data-refresh]", page).forEach((part) => {
      const here = document.getElementById(part.id);
      if (!here || sources.get(part.id) === part.innerHTML) return;
      // A part with an open confirmation is not replaced, so that its button does not move.
      if (here.querySelector(".confirm[open]")) return;
      sources.set(part.id, part.innerHTML);
      replace(here, part);
    });
  }

  function replace(here, part) {
    const open = all("details[open][id]", here).map((details) => details.id);
    const known = new Set(all("tr[id]", here).map((row) => row.id));
    const focused = here.contains(document.activeElement) ? document.activeElement : null;
    const address = focused?.closest("[id]")?.id;
    const scrolled = all(".swaps ol", here).map((list) => list.scrollTop);
    here.replaceChildren(...part.childNodes);
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    all(".swaps ol", here).forEach((list, at) => (list.scrollTop = scrolled[at] ?? 0));
    if (known.size) all("tr[id]", here).forEach((row) => row.classList.toggle("fresh", !known.has(row.id)));
    enhance(here);
    if (address) document.getElementById(address)?.querySelector("[data-row], summary, a")?.focus({ preventScroll: true });
  }

  function changed() {
    if (due || paused) return;
    due = setTimeout(() => refresh().catch(() => {}), Math.max(0, 1000 - (Date.now() - last)));
  }

  function subscribe() {
    const button = document.querySelector("[data-pause]");
    const wanted = !paused && document.visibilityState === "visible";
    if (wanted && !events) {
      events = new EventSource("/events");
      events.addEventListener("changed", changed);
      events.onopen = () => button?.removeAttribute("data-lost");
      events.onerror = () => button?.setAttribute("data-lost", "");
    } else if (!wanted && events) {
      events.close();
      events = null;
    }
  }

  // Keyboard shortcuts.
  const rows = () => all("[data-row]").filter((row) => row.offsetParent !== null);

  function move(by) {
    const list = rows();
    const at = list.indexOf(document.activeElement);
    const next = list[at < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(at + by, 0), list.length - 1)];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  function nextError() {
    const failed = all(".span.failed > summary").filter((row) => row.offsetParent !== null);
    const here = document.activeElement;
    const next = failed.find((row) => here.compareDocumentPosition(row) & Node.DOCUMENT_POSITION_FOLLOWING) ?? failed[0];
    if (!next) return;
    next.parentElement.open = true;
    next.focus();
    next.scrollIntoView({ block: "center" });
  }

  // Folding a span hides its descendants. Unfolding it keeps those hidden whose own ancestor is folded.
  function fold(item, folded) {
    const button = item.querySelector(":scope > .fold");
    if (!button) return;
    button.setAttribute("aria-expanded", String(!folded));
    let hiddenBelow = null;
    const depth = Number(item.dataset.depth);
    for (let at = item.nextElementSibling; at && Number(at.dataset.depth) > depth; at = at.nextElementSibling) {
      const deep = Number(at.dataset.depth);
      if (hiddenBelow !== null && deep <= hiddenBelow) hiddenBelow = null;
      at.hidden = folded || hiddenBelow !== null;
      if (hiddenBelow === null && at.querySelector(":scope > .fold")?.getAttribute("aria-expanded") === "false") hiddenBelow = deep;
    }
  }

  let prefix = "";
  function key(event) {
    const target = event.target;
    const typing = target.matches?.("input, select, textarea");
    if (event.key === "Escape") {
      if (typing) target.blur();
      all(".actions > details[open]").forEach((details) => (details.open = false));
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const item = target.closest?.(".spans > li");
    const afterG = prefix === "g";
    prefix = "";
    if (afterG && event.key === "s") location.href = "/";
    else if (afterG && event.key === "t") location.href = "/traces";
    else if (event.key === "g") prefix = "g";
    else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "e") nextError();
    else if (event.key === "?") document.getElementById("help").showModal();
    else if (event.key === "ArrowLeft" && item) fold(item, true);
    else if (event.key === "ArrowRight" && item) fold(item, false);
    else if (event.key === "/") {
      const field = document.querySelector("[data-search]");
      if (field) field.focus();
      else location.href = "/traces";
    } else return;
    event.preventDefault();
  }

  async function copy(button, text) {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = label), 1500);
  }

  function click(event) {
    const button = event.target.closest?.("button, [data-error]");
    // Only one menu is open at a time.
    all(".actions > details[open]").forEach((details) => (details.open = details.contains(event.target)));
    if (!button) return;
    if (button.dataset.copy !== undefined) copy(button, button.dataset.copy);
    else if (button.dataset.copyAddress !== undefined) copy(button, location.href.split("#")[0]);
    else if (button.dataset.help !== undefined) document.getElementById("help").showModal();
    else if (button.dataset.themeToggle !== undefined) {
      root.dataset.theme = dark() ? "light" : "dark";
      localStorage.setItem("theme", root.dataset.theme);
    } else if (button.dataset.pause !== undefined) {
      paused = !paused;
      button.setAttribute("aria-pressed", String(!paused));
      button.lastElementChild.textContent = paused ? "Paused" : "Live";
      subscribe();
      if (!paused) changed();
    } else if (button.classList.contains("fold")) {
      fold(button.parentElement, button.getAttribute("aria-expanded") === "true");
    } else if (button.dataset.error !== undefined) {
      event.preventDefault();
      nextError();
    }
  }

  // Opens the span that the fragment of the URL names.
  function openAddressed() {
    const item = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const details = item && item.querySelector(":scope > details.span");
    if (details) details.open = true;
  }

  document.addEventListener("DOMContentLoaded", () => {
    remember(document);
    enhance(document);
    openAddressed();
    document.addEventListener("keydown", key);
    document.addEventListener("click", click);
    addEventListener("hashchange", openAddressed);
    if (document.body.dataset.live !== undefined) {
      document.addEventListener("visibilitychange", () => {
        subscribe();
        if (document.visibilityState === "visible") changed();
      });
      subscribe();
    }
  });
})();
