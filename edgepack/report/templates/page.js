"use strict";
(() => {
  // Tips: what a mark stands for, by pointing, tapping or tabbing to it.
  const tip = document.getElementById("tip");
  const show = (target) => {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const mark = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, mark.left + mark.width / 2 - own.width / 2), document.documentElement.clientWidth - own.width - 8);
    const above = mark.top - own.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : mark.bottom + 8}px`;
  };
  const over = (event) => {
    const target = event.target.closest?.("[data-tip]");
    if (target) show(target); else tip.hidden = true;
  };
  for (const name of ["pointerover", "click", "focusin"]) document.addEventListener(name, over);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // Tables: rows with a word, rows in the order of a column.
  for (const input of document.querySelectorAll("[data-filter]")) {
    const rows = document.getElementById(input.dataset.filter).tBodies[0].rows;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    });
  }
  const valueOf = (cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim());
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  for (const table of document.querySelectorAll("[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => head.addEventListener("click", (event) => {
      if (event.target.closest("a")) return;
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (down ? -1 : 1) * compare(valueOf(a.cells[place]), valueOf(b.cells[place])));
      table.tBodies[0].append(...rows);
    }));
  }

  // On paper nothing is folded.
  addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details")) one.open = true; });
})();
