// What pages of the console do besides being links and forms. Everything here is a comfort: without
// it each page works as it came from the server.
//
//   data-live-from="URL"    an element whose [data-live="name"] parts are kept up to date: messages
//                           `event: name` with the inside of the part; `cells` with rows of a table.
//                           Where there is no EventSource, or it is refused, the same URL is asked
//                           each 2 s (once=1: all of it as JSON). Class "stale" after 5 s of silence
//   data-filter="#table"    a box or a list that shows only the rows that fit, at once; a list goes
//                           by the row's attribute that its data-on names
//   data-sort="n"           a link in a table's head that sorts by column n where it stands
//   data-confirm="#id"      a form that first shows what is in that element, or the text itself
//   data-clock="zone"       shows the time there, by the server's clock (data-now, milliseconds)
(() => {
  "use strict";

  const STALE_AFTER = 5_000;
  const POLL_EVERY = 2_000;
  const DEAD_AFTER = 15_000;   // a connection that survived a sleep only by name
  const STREAM_AGAIN_AFTER = 30_000;
  const ASK_WITHIN = 5_000;

  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Live parts.

  const keepLive = (root) => {
    const url = root.dataset.liveFrom;
    const names = new Set(all("[data-live]", root).map((part) => part.dataset.live));
    let heardAt = performance.now();
    let askedAt = heardAt;
    let source = null;
    let timer = 0;
    let streamRefusedAt = -Infinity;

    const hear = (name, text) => {
      if (name === "cells") {
        putCells(root, JSON.parse(text));
      } else {
        for (const part of all(`[data-live="${name}"]`, root)) part.innerHTML = text;
      }
      if (name === "as-of") {
        heardAt = performance.now();
        root.classList.remove("stale");
      }
      askedAt = performance.now();
    };

    const stream = () => {
      source = new EventSource(url);
      for (const name of [...names, "as-of", "cells"]) {
        source.addEventListener(name, (event) => hear(name, event.data));
      }
      source.addEventListener("signed-out", () => location.reload());
      source.onerror = () => {
        // While it is connecting, the browser tries by itself.
        if (source === null || source.readyState !== EventSource.CLOSED) return;
        streamRefusedAt = performance.now();
        start();
      };
    };

    const poll = async () => {
      let wait = POLL_EVERY;
      try {
        const answer = await fetch(`${url}${url.includes("?") ? "&" : "?"}once=1`, {
          headers: { Accept: "application/json" },
          redirect: "manual",
          signal: AbortSignal.timeout ? AbortSignal.timeout(ASK_WITHIN) : undefined,
        });
        if (answer.type === "opaqueredirect" || answer.status === 401) {
          location.reload();
          return;
        }
        if (answer.ok) {
          for (const [name, text] of Object.entries(await answer.json())) hear(name, text);
        } else {
          wait = 5 * POLL_EVERY;
        }
      } catch {
        // Away: said by the stale mark, and asked again.
      }
      if (timer) timer = setTimeout(poll, wait);
    };

    const stop = () => {
      if (source !== null) source.close();
      clearTimeout(timer);
      source = null;
      timer = 0;
    };

    const start = () => {
      stop();
      if (document.hidden) return; // a page that nobody sees keeps no connection
      askedAt = performance.now();
      if ("EventSource" in window && askedAt - streamRefusedAt > STREAM_AGAIN_AFTER) stream();
      else timer = setTimeout(poll, 0);
    };

    setInterval(() => {
      const now = performance.now();
      root.classList.toggle("stale", now - heardAt > STALE_AFTER);
      if (source !== null && now - askedAt > DEAD_AFTER) start();
    }, 1_000);
    document.addEventListener("visibilitychange", start);
    window.addEventListener("online", start);
    window.addEventListener("pageshow", (event) => event.persisted && start());
    window.addEventListener("pagehide", stop);
    start();
  };

  // Tables.

  const putCells = (root, rows) => {
    const tables = new Set();
    for (const [id, texts] of Object.entries(rows)) {
      const row = document.getElementById(id);
      if (row === null || !root.contains(row)) continue;
      all("[data-cell]", row).forEach((cell, n) => {
        if (cell.textContent === texts[n]) return;
        cell.textContent = texts[n];
        cell.dataset.cell = sign(texts[n]);
      });
      tables.add(row.closest("table"));
    }
    tables.forEach(sortAgain);
  };

  const sign = (text) => (/^[+]/.test(text) ? "up" : /^[-−]/.test(text) ? "down" : "");
  const number = (text) => parseFloat(text.replace("−", "-").replace(/[^0-9.-]/g, ""));

  const sortAgain = (table) => {
    const head = table.querySelector("th[aria-sort]");
    if (head === null) return;
    const column = Number(head.querySelector("[data-sort]").dataset.sort);
    const way = head.getAttribute("aria-sort") === "descending" ? -1 : 1;
    const isNumber = head.classList.contains("n");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return [isNumber ? number(text) : text, Number(row.dataset.number), row];
    });
    keyed.sort(([a, firstNumber], [b, secondNumber]) => {
      if (!isNumber) return way * a.localeCompare(b, "zh") || firstNumber - secondNumber;
      // What has no number comes last, whichever way.
      if (Number.isNaN(a) || Number.isNaN(b)) {
        return Number.isNaN(a) - Number.isNaN(b) || firstNumber - secondNumber;
      }
      return way * (a - b) || firstNumber - secondNumber;
    });
    if (keyed.some(([, , row], n) => body.rows[n] !== row)) {
      body.append(...keyed.map(([, , row]) => row));
    }
  };

  const sortBy = (link) => {
    const head = link.closest("th");
    const first = head.dataset.first || (head.classList.contains("n") ? "descending" : "ascending");
    const other = first === "ascending" ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort") === first ? other : first;
    for (const one of all("th[aria-sort]", head.closest("tr"))) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", now);
    sortAgain(head.closest("table"));
    const url = new URL(link.href);
    url.searchParams.set("way", now === "ascending" ? "up" : "down");
    remember(Object.fromEntries(url.searchParams));
  };

  // In the address, so that a reload or a copied link shows the same.
  const remember = (values) => {
    const url = new URL(location.href);
    for (const [name, value] of Object.entries(values)) {
      if (value) url.searchParams.set(name, value);
      else url.searchParams.delete(name);
    }
    history.replaceState(null, "", url);
  };

  const filter = (selector) => {
    const table = document.querySelector(selector);
    if (table === null) return;
    const controls = all("[data-filter]").filter((one) => one.dataset.filter === selector);
    const words = controls
      .filter((one) => !one.dataset.on)
      .flatMap((one) => one.value.toLowerCase().split(/\s+/).filter(Boolean));
    const lists = controls.filter((one) => one.dataset.on && one.value);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = (row.dataset.words ?? row.textContent).toLowerCase();
      const fits =
        words.every((word) => text.includes(word)) &&
        lists.every((one) => row.getAttribute(`data-${one.dataset.on}`) === one.value);
      row.hidden = !fits;
      shown += fits;
    }
    for (const count of all("[data-count]")) {
      if (count.dataset.count === selector) count.textContent = shown;
    }
    for (const none of all("[data-none]")) {
      if (none.dataset.none === selector) none.hidden = shown > 0;
    }
  };

  // Forms that say first what they will do.

  const confirmFirst = (form, button) => {
    const said = form.dataset.confirm;
    const source = said.startsWith("#") ? document.querySelector(said) : null;
    const dialog = document.createElement("dialog");
    const content = document.createElement("div");
    if (source === null) content.textContent = said;
    else content.append((source.content ?? source).cloneNode(true));
    for (const hidden of all("[hidden]", content)) hidden.hidden = false;
    const buttons = document.createElement("p");
    buttons.className = "buttons";
    const yes = document.createElement("button");
    yes.className = button?.className || "primary";
    yes.textContent = form.dataset.yes || button?.textContent.trim() || "OK";
    const no = document.createElement("button");
    no.textContent = document.documentElement.lang.startsWith("zh") ? "取消" : "Cancel";
    no.autofocus = true;
    yes.addEventListener("click", () => {
      form.dataset.confirmed = "yes";
      dialog.close();
      form.requestSubmit(button ?? undefined);
    });
    no.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    buttons.append(yes, no);
    dialog.append(content, buttons);
    document.body.append(dialog);
    dialog.showModal();
  };

  const keepClock = (clock) => {
    const ahead = Number(clock.dataset.now) - Date.now();
    const format = new Intl.DateTimeFormat("zh-CN", {
      timeZone: clock.dataset.clock,
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      hourCycle: "h23",
    });
    const show = () => (clock.textContent = format.format(new Date(Date.now() + ahead)));
    setInterval(show, 250);
    show();
  };

  const begin = () => {
    all("[data-live-from]").forEach(keepLive);
    all("[data-clock]").forEach(keepClock);
    const selectors = new Set(all("[data-filter]").map((one) => one.dataset.filter));
    for (const selector of selectors) {
      const controls = all("[data-filter]").filter((one) => one.dataset.filter === selector);
      for (const one of controls) {
        one.addEventListener("input", () => {
          filter(selector);
          remember({ [one.name]: one.value });
        });
      }
      filter(selector); // what a browser filled in by itself, too
    }
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-sort]");
      if (link === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      sortBy(link);
    });
    document.addEventListener("submit", (event) => {
      const form = event.target;
      if (form.matches("form[data-find]")) event.preventDefault(); // it has filtered already
      if (!form.dataset.confirm || form.dataset.confirmed) return;
      event.preventDefault();
      confirmFirst(form, event.submitter);
    });
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
