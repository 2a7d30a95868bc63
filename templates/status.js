// Fetches the page again and shows what changed. Sections that did not change are left alone, so that a reader, a
// selection or a screen reader in them is not disturbed. Without this script a reload does the same.
(() => {
  const every = 5000;
  const button = document.getElementById("pause");
  const stale = document.getElementById("stale");
  let timer = 0;

  const replace = (before, after) => {
    const open = [...before.querySelectorAll("details[open]")].map((one) => one.id);
    // All that can be stood on in a section is what opens its details.
    const focused = before.contains(document.activeElement) && document.activeElement.closest("details")?.id;
    before.className = after.className;
    before.replaceChildren(...after.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.querySelector(`#${focused} summary`)?.focus({ preventScroll: true });
  };

  const show = (next) => {
    const selection = document.getSelection();
    for (const after of next.querySelectorAll("[data-live]")) {
      const before = document.getElementById(after.id);
      const isRead = !selection.isCollapsed && selection.containsNode(before, true);
      // What was opened here is no difference.
      const shown = before.cloneNode(true);
      for (const one of shown.querySelectorAll("details")) one.removeAttribute("open");
      if (!isRead && shown.outerHTML !== after.outerHTML) replace(before, after);
    }
    document.title = next.title;
    const icon = "link[rel=icon]";
    document.querySelector(icon).href = next.querySelector(icon).href;
  };

  const update = async () => {
    clearTimeout(timer);
    if (document.hidden || button.getAttribute("aria-pressed") === "true") return;
    try {
      const answer = await fetch("", { cache: "no-store", signal: AbortSignal.timeout(every) });
      if (!answer.ok) throw new Error(answer.statusText);
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    }
    timer = setTimeout(update, every);
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    const isPaused = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(isPaused));
    update();
  });
  document.addEventListener("visibilitychange", update);
  timer = setTimeout(update, every);
})();
