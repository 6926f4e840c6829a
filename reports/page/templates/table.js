// Sorting: every heading of a table[data-sortable] is a button. First ascending, then descending, then as it came.
"use strict";
(() => {
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const next = { none: "ascending", ascending: "descending", descending: "none" };

  function valueOf(body, column, numeric) {
    const cell = body.rows[0].cells[column];
    if (!numeric) return cell.textContent.trim();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  }

  function compare(one, other, numeric, sign) {
    // What has no value stands last whichever way the rest is sorted.
    const empty = value => value === null || value === "";
    if (empty(one) || empty(other)) return empty(one) - empty(other);
    return sign * (numeric ? one - other : words.compare(one, other));
  }

  function sort(table, bodies, heading, column) {
    const way = next[heading.getAttribute("aria-sort")];
    for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", way);
    let order = bodies;
    if (way !== "none") {
      const numeric = heading.classList.contains("number"), sign = way === "ascending" ? 1 : -1;
      const keyed = bodies.map(body => [valueOf(body, column, numeric), body]);
      order = keyed.sort((a, b) => compare(a[0], b[0], numeric, sign)).map(pair => pair[1]);
    }
    table.append(...order);
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const bodies = [...table.tBodies];
    [...table.tHead.rows[0].cells].forEach((heading, column) =>
      heading.querySelector("button")?.addEventListener("click", () => sort(table, bodies, heading, column)));
  }
})();
