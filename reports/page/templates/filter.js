// Filtering: one set of filters for all tables of the page, and a line with the number of rows shown.
(() => {
  const filters = document.querySelector("[data-filters]");
  if (!filters) return;
  const search = filters.querySelector("[data-search]");
  const choices = [...filters.querySelectorAll("[data-facet]")];
  const count = filters.querySelector("[data-count]");
  const sections = [...document.querySelectorAll("[data-section]")].map(section => ({
    section,
    none: section.querySelector("[data-none]"),
    rows: [...section.querySelectorAll("table[data-sortable] > tbody")].map(body => ({
      body,
      text: [...body.rows].filter(row => !row.classList.contains("more"))
        .map(row => row.textContent).concat(Object.values(body.dataset)).join(" ").toLowerCase(),
    })),
  }));

  function meets(row, asked, chosen) {
    // A value follows "=", so that an empty value differs from "all".
    return asked.every(word => row.text.includes(word)) &&
      chosen.every(([name, value]) => "=" + row.body.dataset[name] === value);
  }

  function apply() {
    const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = choices.filter(choice => choice.value).map(choice => [choice.dataset.facet, choice.value]);
    let shown = 0, total = 0;
    for (const { none, rows } of sections) {
      let here = 0;
      for (const row of rows) {
        const kept = meets(row, asked, chosen);
        row.body.classList.toggle("out", !kept);
        here += kept;
      }
      if (none) none.hidden = here > 0;
      shown += here;
      total += rows.length;
    }
    count.textContent = `${shown} of ${total} ${filters.dataset.what} found`;
    document.dispatchEvent(new Event("filtered"));
  }

  filters.hidden = false;
  search.addEventListener("input", apply);
  for (const choice of choices) choice.addEventListener("change", apply);
  filters.querySelector("[data-reset]").addEventListener("click", () => {
    search.value = "";
    for (const choice of choices) choice.value = "";
    apply();
  });
  // A browser may restore the text typed before a reload.
  apply();
})();
