// Elements from text. Names come from the network, so they are never parsed as HTML.

/** Makes an element. `attributes`: by name; of `on…`: a listener. Children: elements and texts. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Sets the text of an element, if it is another one: a screen reader is not told the same twice. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A table of texts. */
export function table(caption, headings, rows) {
  const cells = (tag, texts, scope) => texts.map((text) => make(tag, { scope }, text));
  return make("table", { class: "data" },
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...cells("th", headings, "col"))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells("td", row, null)))));
}

/** Facts: pairs of a name and a value. */
export function showFacts(place, facts) {
  place.replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** The state of the page: `live`, `stale` or `connecting`, in words, and the title of the page. */
export function showState(element, state, text, title) {
  // A screen reader is told of a new state, not of each second of it.
  element.setAttribute("aria-live", element.dataset.state === state ? "off" : "polite");
  element.dataset.state = state;
  setText(element, text);
  document.body.classList.toggle("is-stale", state === "stale");
  document.title = `${state === "stale" ? "(stale) " : ""}${title}`;
}
