// What figures that move share. Each defines itself by its name; a page that has a place for it starts it there.
// The drawing or the figure before the place is hidden then: without scripts, and on paper, it is what is shown.
const moving = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  let numbered = 0;

  // An element with attributes, properties that begin with "on", and children; names of SVG begin with "svg:".
  const make = (name, attributes = {}, ...children) => {
    const own = name.startsWith("svg:");
    const made = own ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes))
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  };

  // A drawing of this size in its own units, which is as wide as the page allows.
  const drawing = (width, height, label) =>
    make("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, style: `max-width:${width}px` });

  const set = (element, attributes) => {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  // A slider with its name and its value in words; value and setting are numbers.
  const slider = ({ label, min, max, step, value, say = String, change }) => {
    const id = `moving-${(numbered += 1)}`;
    const told = make("output", { for: id });
    const input = make("input", { type: "range", id, min, max, step, value });
    const tell = () => {
      told.textContent = say(+input.value);
      input.setAttribute("aria-valuetext", told.textContent);
    };
    input.addEventListener("input", () => { tell(); change(+input.value); });
    input.addEventListener("keydown", (event) => event.stopPropagation()); // arrow keys turn pages elsewhere
    tell();
    const element = make("div", { class: "moving-control" }, make("label", { for: id }, label), input, told);
    return { element, get value() { return +input.value; }, set value(to) { input.value = to; tell(); } };
  };

  // One of several options, {value: words}.
  const choice = ({ label, options, value, change }) => {
    const id = `moving-${(numbered += 1)}`;
    const select = make("select", { id },
      ...Object.entries(options).map(([key, words]) => make("option", { value: key }, words)));
    select.value = value;
    select.addEventListener("change", () => change(select.value));
    select.addEventListener("keydown", (event) => event.stopPropagation());
    const element = make("div", { class: "moving-control" }, make("label", { for: id }, label), select);
    return { element, get value() { return select.value; }, set value(to) { select.value = to; } };
  };

  const button = (words, press) => make("button", { type: "button", onclick: press }, words);

  const buttons = (...children) => make("div", { class: "moving-buttons" }, ...children);

  // Sliders and choices, one below another, in three columns: name, control, value.
  const row = (...children) => make("div", { class: "moving-row" }, ...children.map((child) => child.element || child));

  // A sentence that is read aloud when it changes.
  const sentence = () => make("p", { class: "moving-words", role: "status" });

  const note = (words) => make("p", { class: "moving-note" }, words);

  // A grid of cells that arrow keys walk through, and Enter, space or a click presses: one stop for the tab key.
  const walk = (cells, columns, press) => {
    const go = (to) => {
      for (const cell of cells) cell.setAttribute("tabindex", "-1");
      cells[to].setAttribute("tabindex", "0");
      cells[to].focus();
    };
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    cells.forEach((cell, at) => {
      set(cell, { role: "button", tabindex: at ? "-1" : "0" });
      cell.addEventListener("click", () => press(at));
      cell.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") press(at);
        else if (!(event.key in steps)) return;
        else if (cells[at + steps[event.key]]) go(at + steps[event.key]);
        event.preventDefault();
        event.stopPropagation();
      });
    });
  };

  // Numbers of 16 bits each, in steps.
  const unpacked = (text, step) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float64Array.from({ length: bytes.length / 2 }, (_, at) => view.getInt16(2 * at, true) * step);
  };

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const spread = (values) => {
    const middle = mean(values);
    return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
  };

  const start = (place, build) => {
    const before = place.previousElementSibling;
    const data = JSON.parse(place.querySelector("script").textContent);
    const shown = make("div", { class: "moving-shown" });
    place.append(shown);
    place.state = build(shown, data); // what it shows, in numbers
    place.hidden = false;
    before?.classList.add("moving-replaced");
  };

  const define = (name, build) => {
    for (const place of document.querySelectorAll(`.moving[data-moving="${name}"]`)) start(place, build);
  };

  return { define, make, set, drawing, slider, choice, button, buttons, row, sentence, note, walk, unpacked, mean, spread };
})();
