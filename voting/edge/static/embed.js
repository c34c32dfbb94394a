// The page for portals' programmers: asks the service for the lines anew when a choice changes.
// Nothing is made here: what is shown is what the server made, and without this script a button
// does the same. No storage, nothing global.
(() => {
  "use strict";
  const form = document.getElementById("choose");
  if (!form) return;
  const state = document.getElementById("state");
  const find = document.getElementById("find");
  const found = document.getElementById("found");
  const candidate = document.getElementById("candidate");
  const WAIT_MS = 150; // a colour is dragged, not clicked
  const { sheet } = document.querySelector("link[href*='embed.css']");
  const own = sheet ? sheet.cssRules.length : 0;
  let asking = null;
  let timer = 0;

  const show = (element) => {
    element.hidden = false;
  };

  function dress() {
    document.querySelectorAll(".copy").forEach(show);
    // The very rules that are shown, for the preview: by script, as the page's policy refuses styles
    // in the page. The page has no like-... but in its previews.
    if (!sheet) return;
    while (sheet.cssRules.length > own) sheet.deleteRule(own);
    for (const code of document.querySelectorAll("[id^=css-]")) {
      sheet.insertRule(`@media all { ${code.textContent} }`, own);
    }
  }

  async function refresh() {
    if (asking) asking.abort();
    const mine = (asking = new AbortController());
    const query = new URLSearchParams(new FormData(form));
    const link = `?${query}`;
    query.set("part", "lines");
    form.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(`?${query}`, { signal: mine.signal });
      if (!answer.ok) throw new Error(String(answer.status));
      const made = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const id of ["lines", "origin-said"]) {
        const fresh = made.getElementById(id);
        if (fresh) document.getElementById(id).replaceWith(document.adoptNode(fresh));
      }
      dress();
      history.replaceState(null, "", link + location.hash);
      state.textContent = "代码已更新";
    } catch (reason) {
      if (reason.name === "AbortError") return;
      state.textContent = "暂时取不到新的代码，请稍后再选一次";
    }
    form.removeAttribute("aria-busy");
  }

  async function copy(button) {
    const code = document.getElementById(button.dataset.copies);
    const before = button.dataset.words || button.textContent;
    button.dataset.words = before;
    const done = (await toClipboard(code.textContent)) || bySelection(code);
    button.textContent = done ? "已复制" : "请按 Ctrl+C";
    state.textContent = done ? "已复制到剪贴板" : "代码已选中，请按 Ctrl+C 复制";
    setTimeout(() => {
      button.textContent = before;
    }, 2000);
  }

  async function toClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false; // no clipboard on a page without https, or it was denied
    }
  }

  function bySelection(code) {
    getSelection().selectAllChildren(code);
    try {
      return document.execCommand("copy");
    } catch {
      return false;
    }
  }

  // Options that do not match are taken out: hiding them is not enough on phones.
  const all = [...candidate.options].map((option) => [option, `${option.text} ${option.value}`.toLowerCase()]);
  function narrow() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = candidate.value;
    const left = all.filter(([, text]) => words.every((word) => text.includes(word))).map(([option]) => option);
    found.textContent = words.length ? (left.length ? `找到 ${left.length} 位` : "没有找到") : "";
    if (!left.length) return;
    candidate.replaceChildren(...left);
    if (left.some((option) => option.value === chosen)) candidate.value = chosen;
    else {
      candidate.selectedIndex = 0;
      later();
    }
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(refresh, WAIT_MS);
  }

  find.addEventListener("input", narrow);
  form.addEventListener("change", (event) => {
    if (event.target.name === "campaign") form.submit(); // another list of candidates
    else if (event.target.name && event.target.name !== "origin") later();
  });
  form.addEventListener("input", (event) => {
    if (event.target.name === "color") later();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    refresh();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".copy");
    if (button) copy(button);
  });

  document.documentElement.classList.add("scripted");
  show(find);
  dress();
  // One way at a time is enough to look at; without this script all of them are there.
  if (!form.elements.route.value) {
    form.querySelector("[name=route][value=card]").checked = true;
    refresh();
  }
})();
