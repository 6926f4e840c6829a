// The query explorer: shows one run at a time from the JSON of the page. Commands can be copied.
(() => {
  const data = document.getElementById("query-data");
  const runs = data ? JSON.parse(data.textContent) : [];
  const controls = document.querySelector("[data-explorer]");

  function make(name, text, attributes = {}) {
    const element = document.createElement(name);
    element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  function explore() {
    const select = controls.querySelector("[data-run]");
    const explored = document.querySelector("[data-explored]");
    const table = explored.querySelector("table");
    const headings = [...table.tHead.rows[0].cells];
    const groups = new Map();
    for (const run of runs) {
      if (!groups.has(run.group)) groups.set(run.group, make("optgroup", "", { label: run.group }));
      groups.get(run.group).append(make("option", run.name, { value: run.key }));
    }
    select.append(...groups.values());

    function line([query, before, after, first, last, best, worst, lost, counted]) {
      const cells = [
        [query, query], [(before - after).toFixed(3), before - after], [before.toFixed(3), before],
        [after.toFixed(3), after], [first, first], [last, last],
        [`${best} to ${worst}`, worst], [`${lost} of ${counted} trials`, lost],
      ];
      const row = make("tr", "", { role: "row" });
      cells.forEach(([text, value], column) => row.append(make("td", text, {
        role: "cell", class: "number", "data-value": value, "data-label": headings[column].textContent,
      })));
      const body = make("tbody", "", { role: "rowgroup" });
      body.append(row);
      return body;
    }

    // The frame and a word of a thumbnail say whether it has the query's identity.
    function thumbnail(source, alt, right) {
      const frame = make("span", "", { class: right === undefined ? "frame" : right ? "frame right" : "frame wrong" });
      frame.append(make("img", "", { src: source, alt, loading: "lazy" }));
      if (right !== undefined) frame.append(make("span", right ? "\u2713 right" : "\u2717 wrong", { "aria-hidden": "true" }));
      return frame;
    }

    function strip(title, image, alt, gallery, pictures) {
      const line = make("div", "", { class: "strip" });
      const row = make("div", "", { class: "row", role: "group", "aria-label": `${title}: query and its gallery`, tabindex: "0" });
      row.append(thumbnail(pictures[image], alt));
      gallery.forEach(([picture, right], at) =>
        row.append(thumbnail(pictures[picture], `rank ${at + 1}: ${right ? "right" : "wrong"} person`, Boolean(right))));
      line.append(make("span", title, { class: "when" }), row);
      return line;
    }

    function kept({ pictures, queries, trial }) {
      explored.querySelector("[data-trial]").textContent = trial;
      explored.querySelector("[data-kept]").replaceChildren(...queries.map(one => {
        const card = make("article", "", { class: "card" });
        const why = one.why === "worst" ? "loses most" : "drawn at random";
        card.append(
          make("h4", `Query ${one.query} (${why}): first match at rank ${one.rank[0]} \u2192 ${one.rank[1]}, ` +
            `AP ${one.ap[0].toFixed(3)} \u2192 ${one.ap[1].toFixed(3)}`),
          strip("before", one.clean, "query, clean", one.before, pictures),
          strip("after", one.shown, "query, as the victim saw it", one.after, pictures));
        return card;
      }));
    }

    function show(key) {
      const run = runs.find(one => one.key === key);
      if (!run) return;
      select.value = key;
      explored.querySelector("h3").textContent = `${run.name} (${run.group})`;
      explored.querySelector("[data-facts]").textContent =
        `${run.queries} queries with a match, ${run.trials} trials: ${run.lost} % of query-trial pairs lose ` +
        `Rank-1, ${run.gained} % gain it; the AP of ${run.fell} % of queries falls.`;
      for (const body of [...table.tBodies]) body.remove();
      for (const heading of headings) heading.setAttribute("aria-sort", "none");
      table.append(...run.rows.map(line));
      explored.querySelector("[data-images]").hidden = !run.images;
      if (run.images) kept(run.images);
    }

    select.addEventListener("change", () => show(select.value));
    for (const button of controls.querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => {
        const order = [...select.options].map(option => option.value);
        const at = order.indexOf(select.value) + Number(button.dataset.step);
        show(order[(at + order.length) % order.length]);
      });
    }
    for (const link of document.querySelectorAll("[data-query-run]")) {
      link.addEventListener("click", () => show(link.dataset.queryRun));
    }
    controls.hidden = explored.hidden = false;
    // Show the most harmful run first.
    show(runs.reduce((worst, run) => run.lost > worst.lost ? run : worst).key);
  }

  if (runs.length && controls) explore();

  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const command = button.parentNode.querySelector("[data-command]");
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        // Copying is not allowed: select the command, so that the usual keys copy it.
        getSelection().selectAllChildren(command);
        button.textContent = "Selected";
      }
    });
  }
})();
