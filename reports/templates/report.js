"use strict";
// The page's script: tables that sort and filter, plots that are drawn when they come into view, light and dark.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const unpacked = (packed) => (Array.isArray(packed) ? packed : packed.at.map((place) => packed.words[place]));
  const made = (name, text = "", attributes = {}) => {
    const element = document.createElement(name);
    element.textContent = text; // never innerHTML: names come from anyone's plug-in
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const breakable = (words) => words.split(/(?<=[_,[(])/).flatMap((part) => [part, document.createElement("wbr")]);
  const ROWS = innerWidth < 700 ? 25 : 50;

  // ---- tables -------------------------------------------------------------------------------------------------
  class PageTable {
    constructor(section) {
      const data = read(`data-${section.dataset.table}`);
      this.columns = data.columns;
      this.text = data.text.map(unpacked);
      this.values = data.values;
      this.filters = Object.fromEntries(Object.entries(data.filters).map(([name, words]) => [name, unpacked(words)]));
      this.details = Object.entries(data.details).map(([name, words]) => [name, unpacked(words)]);
      this.tones = unpacked(data.tones);
      this.toned = new Set(data.toned);
      this.command = unpacked(data.command);
      this.noun = data.noun;
      this.body = section.querySelector("tbody");
      this.headings = [...section.querySelectorAll("thead th")];
      this.count = section.querySelector(".count");
      this.search = section.querySelector("input");
      this.selects = [...section.querySelectorAll("select")];
      this.pages = Object.fromEntries([...section.querySelectorAll(".pager button")].map((each) => [each.name, each]));
      this.haystack = this.tones.map((_, row) => [...this.text, ...this.details.map(([, words]) => words)]
        .map((words) => words[row]).join(" ").toLowerCase());
      this.order = this.tones.map((_, row) => row);
      this.sorted = null;
      this.first = 0;
      this.listen();
      this.show();
    }

    listen() {
      this.headings.forEach((heading, column) => heading.querySelector("button")
        .addEventListener("click", () => this.sort(column)));
      for (const select of this.selects) select.addEventListener("change", () => this.restart());
      this.search.addEventListener("input", () => this.restart());
      this.pages.back.addEventListener("click", () => this.turn(-ROWS));
      this.pages.on.addEventListener("click", () => this.turn(ROWS));
    }

    restart() { this.first = 0; this.show(); }
    turn(by) { this.first += by; this.show(); }

    sort(column) {
      const up = !(this.sorted && this.sorted.column === column && this.sorted.up);
      this.sorted = { column, up };
      const values = this.values[column], text = this.text[column];
      const compared = values
        ? (a, b) => values[a] - values[b]
        : (a, b) => text[a].localeCompare(text[b], "en", { numeric: true });
      const missing = (row) => (values ? values[row] === null : text[row] === "");
      this.order.sort((a, b) => (missing(a) - missing(b)) || (missing(a) ? 0 : up ? compared(a, b) : compared(b, a)) || a - b);
      this.headings.forEach((heading, index) =>
        heading.setAttribute("aria-sort", index === column ? (up ? "ascending" : "descending") : "none"));
      this.restart();
    }

    matching() {
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const asked = this.selects.filter((select) => select.value !== "")
        .map((select) => [this.filters[select.name], select.selectedOptions[0].dataset.word]);
      return this.order.filter((row) => asked.every(([column, word]) => column[row] === word)
        && words.every((word) => this.haystack[row].includes(word)));
    }

    show() {
      const rows = this.matching();
      const last = Math.min(rows.length, this.first + ROWS);
      this.body.replaceChildren(...rows.slice(this.first, last).map((row) => this.row(row)));
      const all = this.tones.length;
      const shown = rows.length === 0 ? `no ${this.noun.slice(0, -1)} matches` : `${this.first + 1} to ${last} of ${rows.length}`;
      this.count.textContent = rows.length === all ? `${shown} ${this.noun}` : `${shown}, of ${all} ${this.noun} in all`;
      this.pages.back.disabled = this.first === 0;
      this.pages.on.disabled = last >= rows.length;
    }

    row(number) {
      const row = made("tr");
      this.columns.forEach((column, index) => {
        const words = this.text[index][number];
        if (index === 0) {
          const cell = made("th", "", { scope: "row" }), button = made("button", "", { "aria-expanded": "false" });
          button.append(...breakable(words));
          button.addEventListener("click", () => this.open(row, button, number));
          cell.append(button);
          row.append(cell);
          return;
        }
        const cell = made("td", column.numeric ? words : "");
        if (!column.numeric) cell.append(...breakable(words));
        if (column.numeric) cell.className = "num";
        if (this.tones[number] && (this.toned.has(index) || (column.numeric && /^[a-z_]+$/.test(words)))) cell.classList.add(this.tones[number]);
        row.append(cell);
      });
      return row;
    }

    open(row, button, number) {
      const shut = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!shut));
      if (shut) { row.nextElementSibling.remove(); return; }
      const detail = made("tr", "", { class: "detail" }), cell = made("td", "", { colspan: String(this.columns.length) });
      const box = made("div"), list = made("dl");
      for (const [name, words] of this.details) {
        if (words[number]) list.append(made("dt", name), made("dd", words[number]));
      }
      if (this.command[number]) list.append(made("dt", "again"), this.copied(this.command[number]));
      box.append(list);
      cell.append(box);
      detail.append(cell);
      row.after(detail);
    }

    copied(command) {
      const entry = made("dd"), code = made("code", command), button = made("button", "copy", { class: "copy" });
      button.addEventListener("click", async () => {
        try { await navigator.clipboard.writeText(command); button.textContent = "copied"; }
        catch { getSelection().selectAllChildren(code); button.textContent = "selected: press Ctrl+C"; }
      });
      entry.append(code, " ", button);
      return entry;
    }

    hover(number) {
      const said = (index) => {
        const { title, unit } = this.columns[index], words = this.text[index][number];
        return index === 0 ? `<b>${shown(words)}</b>` : `${shown(title)}: ${shown(words)}${unit && /\d/.test(words) ? ` ${unit}` : ""}`;
      };
      const wanted = ["method", "n", "k", "gradient", "solve + gradient", "peak memory", "relative error", "status, accuracy, flags"];
      return this.columns.map((column, index) => (wanted.includes(column.title) ? said(index) : null))
        .filter((line) => line !== null).join("<br>");
    }
  }

  // A table that stands in the page whole: its headings sort it by what it shows, missing values last.
  class StillTable {
    constructor(table) {
      this.body = table.tBodies[0];
      this.headings = [...table.tHead.rows[0].cells];
      this.numeric = this.headings.map((heading) => heading.classList.contains("num"));
      this.headings.forEach((heading, column) => {
        const button = made("button", heading.firstChild.textContent, { type: "button" });
        heading.firstChild.replaceWith(button);
        heading.setAttribute("aria-sort", "none");
        button.addEventListener("click", () => this.sort(column));
      });
      for (const { cells: [first] } of this.body.rows) first.replaceChildren(...breakable(first.textContent));
    }

    sort(column) {
      const up = this.headings[column].getAttribute("aria-sort") !== "ascending";
      const text = (row) => row.cells[column].textContent;
      const number = (row) => Number.parseFloat(text(row).replace(/^(<=|≤)\s*/, ""));
      const missing = (row) => (this.numeric[column] ? Number.isNaN(number(row)) : text(row) === "-");
      const compared = this.numeric[column]
        ? (a, b) => number(a) - number(b)
        : (a, b) => text(a).localeCompare(text(b), "en", { numeric: true });
      const rows = [...this.body.rows];
      rows.sort((a, b) => (missing(a) - missing(b)) || (missing(a) ? 0 : up ? compared(a, b) : compared(b, a)));
      this.body.append(...rows);
      this.headings.forEach((heading, index) =>
        heading.setAttribute("aria-sort", index === column ? (up ? "ascending" : "descending") : "none"));
    }
  }

  const shown = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const tables = {};
  for (const section of document.querySelectorAll("[data-table]")) tables[section.dataset.table] = new PageTable(section);
  for (const table of document.querySelectorAll(":not([data-table]) > .scroll > table")) new StillTable(table);

  // ---- plots --------------------------------------------------------------------------------------------------
  const unpacking = (async () => {
    const bytes = Uint8Array.from(atob(document.getElementById("data-plots").textContent), (each) => each.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  })();
  const CONFIG = {
    responsive: true, displaylogo: false, typesetMath: false, toImageButtonOptions: { format: "svg" },
    modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
  };
  const coarse = matchMedia("(pointer: coarse)").matches;
  const drawn = new Map();

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    return { ink: of("ink"), line: of("line"), grid: of("grid"), panel: of("panel") };
  };

  const themed = (layout) => {
    const { ink, line, grid, panel } = colours(), own = { ...layout };
    own.font = { ...layout.font, color: ink };
    own.hoverlabel = { bgcolor: panel, bordercolor: line, align: "left", font: { color: ink, size: 12 } };
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))])) {
      own[name] = { linecolor: line, tickcolor: line, ...layout[name], gridcolor: grid, zerolinecolor: line };
    }
    if (coarse) own.dragmode = false; // a finger scrolls the page
    return own;
  };

  const draw = async (holder, number) => {
    const { data, layout } = (await unpacking)[holder.id][number];
    for (const trace of data) {
      if (trace.meta === "cells") trace.text = trace.customdata.map((row) => tables.cells.hover(row));
    }
    drawn.set(holder, number);
    const narrow = holder.clientWidth < 560, tall = holder.clientWidth > 900 ? 80 : 0;
    const own = themed(layout);
    own.width = holder.clientWidth;
    if (narrow) own.margin = { ...layout.margin, l: 52, r: 8 };
    await Plotly.react(holder, data, own, { ...CONFIG, displayModeBar: !narrow && !coarse && "hover" });
    // The legend stands below the axes, and the plot grows by it: plotly would take its height from the axes.
    const legend = holder.querySelector(".legend .bg");
    const height = legend ? Math.ceil(legend.getBBox().height) : 0;
    await Plotly.relayout(holder, { height: layout.height + tall + height });
  };

  const holders = [...document.querySelectorAll(".plot")];
  const redraw = () => drawn.forEach((number, holder) => draw(holder, number));
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting && !drawn.has(target)) draw(target, 0);
  }, { rootMargin: "300px" });
  for (const holder of holders) {
    seen.observe(holder);
    const select = holder.closest("figure").querySelector("select");
    if (select) select.addEventListener("change", () => draw(holder, select.selectedIndex));
  }
  let width = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's address bar
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 150);
  });

  // ---- light and dark -----------------------------------------------------------------------------------------
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const name = () => { button.textContent = isDark() ? "light" : "dark"; };
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); redraw(); });
  dark.addEventListener("change", () => { name(); redraw(); });
  name();

  window.report = { drawAll: () => Promise.all(holders.map((holder) => draw(holder, drawn.get(holder) ?? 0))) };
})();
