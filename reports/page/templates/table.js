// Sorting: every heading of a table[data-sortable] is a button. First ascending, then descending, then the original order.
// Rows with details open and close. A long table has pages.
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
    turn.get(table)?.(0);
  }

  const size = matchMedia("(max-width: 40rem)").matches ? 10 : 25;
  const turn = new Map();

  // Rows that a filter hides have no place on any page; print shows every page.
  function paged(table) {
    const pager = document.createElement("nav");
    const [back, where, on] = ["button", "span", "button"].map(name => document.createElement(name));
    back.type = on.type = "button";
    [back.textContent, on.textContent] = ["Previous", "Next"];
    pager.className = "pager screen";
    pager.setAttribute("aria-label", "Pages of the table");
    where.setAttribute("role", "status");
    pager.append(back, where, on);
    table.closest(".scroll").after(pager);
    let page = 0;
    function go(to) {
      const rows = [...table.tBodies].filter(body => !body.classList.contains("out"));
      page = Math.max(0, Math.min(to, Math.ceil(rows.length / size) - 1));
      rows.forEach((body, at) => body.classList.toggle("later", Math.floor(at / size) !== page));
      pager.hidden = rows.length <= size;
      where.textContent = `rows ${page * size + 1} to ${Math.min(rows.length, (page + 1) * size)} of ${rows.length}`;
      back.disabled = page === 0;
      on.disabled = (page + 1) * size >= rows.length;
    }
    back.addEventListener("click", () => go(page - 1));
    on.addEventListener("click", () => go(page + 1));
    document.addEventListener("filtered", () => go(0));
    turn.set(table, go);
    go(0);
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    for (const body of table.tBodies) came.set(body, serial++);
    [...table.tHead.rows[0].cells].forEach((heading, column) =>
      heading.querySelector("button").addEventListener("click", () => sort(table, heading, column)));
    if (table.tBodies.length > size) paged(table);
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
