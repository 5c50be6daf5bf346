// A table of rows, of which one is chosen: with a click, or with the arrow keys.

import { make } from "/web/dom.js";

export class Grid {
  #columns;
  #body = make("tbody");
  #chosen = null;
  #onChoose;
  #detail;

  /**
   * `columns`: heading, class, and what it means. `onChoose` gets the chosen row, or null. `detail` is the element that shows
   * it, which Enter leads to.
   */
  constructor(place, title, columns, onChoose, detail = "detail-title") {
    this.#detail = detail;
    this.#columns = columns;
    this.#onChoose = onChoose;
    const headings = columns.map(([text, kind, meaning]) => make("th", { scope: "col", class: kind, title: meaning }, text));
    this.#body.addEventListener("click", (event) => this.choose(event.target.closest("tr")?.row));
    this.#body.addEventListener("keydown", (event) => this.#key(event));
    place.append(make("table", { role: "grid", "aria-labelledby": title },
      make("thead", {}, make("tr", {}, ...headings)), this.#body));
  }

  get chosen() {
    return this.#chosen;
  }

  /** A row with these properties, which is not shown yet. */
  row(properties) {
    const cells = this.#columns.map(([, kind]) => make("td", { class: kind, role: "gridcell" }));
    const element = make("tr", { tabindex: "-1", "aria-selected": "false" }, ...cells);
    element.row = { ...properties, element, cells };
    return element.row;
  }

  /** Shows these rows in this order. The focus stays on its row. */
  show(rows) {
    const elements = rows.map((row) => row.element);
    const wanted = new Set(elements);
    const focused = document.activeElement;
    [...this.#body.children].filter((element) => !wanted.has(element)).forEach((element) => element.remove());
    elements.forEach((element, index) => {
      const there = this.#body.children[index];
      if (there !== element) this.#body.insertBefore(element, there ?? null);
    });
    // A row that was moved has lost it.
    if (this.#body.contains(focused)) focused.focus({ preventScroll: true });
  }

  choose(row) {
    if (row !== this.#chosen) {
      this.#mark(false);
      this.#chosen = row ?? null;
      this.#mark(true);
    }
    this.#onChoose(this.#chosen);
  }

  #mark(isChosen) {
    const element = this.#chosen?.element;
    element?.setAttribute("aria-selected", String(isChosen));
    if (element) element.tabIndex = isChosen ? 0 : -1;
  }

  #key(event) {
    const rows = [...this.#body.children];
    const at = rows.indexOf(event.target.closest("tr"));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, Enter: at, " ": at }[event.key];
    const element = rows[to];
    if (!element) return;
    event.preventDefault();
    this.choose(element.row);
    element.focus();
    if (event.key === "Enter") document.getElementById(this.#detail)?.focus();
  }
}
