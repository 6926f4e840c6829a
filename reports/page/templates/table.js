// Sorting: every heading of a table[data-sortable] is a button. First ascending, then descending, then the original order.
// Rows with details open and close.
"use strict";
(() => {
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  const came = new WeakMap();
  let serial = 0;

  function valueOf(body, column, numeric) {
    const cell = body.rows[0].cells[column];
    if (!numeric) return cell.textContent.trim();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  }

  function compare(one, other, numeric, sign) {
    // Cells without a value are last in both directions.
    const empty = value => value === null || value === "";
    if (empty(one) || empty(other)) return empty(one) - empty(other);
    return sign * (numeric ? one - other : words.compare(one, other));
  }

  function sort(table, heading, column) {
    const way = next[heading.getAttribute("aria-sort")];
    for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", way);
    const bodies = [...table.tBodies];
    // A table filled by a script is first seen here, in its original order.
    for (const body of bodies) if (!came.has(body)) came.set(body, serial++);
    bodies.sort((a, b) => came.get(a) - came.get(b));
    if (way !== "none") {
      const numeric = heading.classList.contains("number"), sign = way === "ascending" ? 1 : -1;
      const values = new Map(bodies.map(body => [body, valueOf(body, column, numeric)]));
      bodies.sort((a, b) => compare(values.get(a), values.get(b), numeric, sign));
    }
    table.append(...bodies);
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    for (const body of table.tBodies) came.set(body, serial++);
    [...table.tHead.rows[0].cells].forEach((heading, column) =>
      heading.querySelector("button").addEventListener("click", () => sort(table, heading, column)));
  }

  // Without this script all details stay open, because they could not be opened again.
  document.documentElement.classList.add("js");
  for (const toggle of document.querySelectorAll("[data-toggle]")) {
    toggle.setAttribute("aria-expanded", "false");
    toggle.addEventListener("click", () => {
      const open = toggle.closest("tbody").querySelector(".more").classList.toggle("open");
      toggle.setAttribute("aria-expanded", String(open));
    });
  }
})();
