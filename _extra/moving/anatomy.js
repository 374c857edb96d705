// Anatomy of a crossbar: what each cell passes, what a column adds up, and what its amplifier makes of it.
moving.define("anatomy", (shown, data) => {
  const { make, set } = moving;
  const volts = [...data.volts], asked = data.cells.flat();
  const [low, high] = data.range, rows = volts.length, columns = asked.length / rows;
  let chosen = 0, looked = null, broken = "nothing";

  const short = (value, digits) => {
    const text = String(+Math.abs(value).toFixed(digits));
    return value < 0 && +text !== 0 ? `−${text}` : text;
  };
  // Behind resistors numbers are rounded, and have two digits; behind amplifiers two digits tell them in full.
  const V = (value) => `${short(value, 3)} V`, rounded = () => broken === "amplifiers";
  const amount = (value) => (rounded() ? (+value.toFixed(2) + 0).toFixed(2).replace("-", "−") : short(value, 2));
  const µA = (value) => `${amount(value)} µA`;
  const fixed = (value) => {
    const size = Math.abs(value), digits = Math.abs(100 * size - Math.round(100 * size)) < 1e-6 ? 2 : rounded() ? 3 : 4;
    return `${value < -5e-4 ? "−" : ""}${size.toFixed(digits)} V`;
  };

  // What the cells of a column add up to.
  const down = (g, column, each) => volts.reduce((sum, volt, row) => sum + each(volt, g[row * columns + column]), 0);

  // Every voltage and current: an amplifier holds its column at 0 V; a resistor lets it rise.
  const solve = (stuck) => {
    const g = asked.map((value, at) => (stuck && at === chosen ? high : value));
    const held = Array.from({ length: columns }, (_, column) =>
      broken === "amplifiers" ? down(g, column, (volt, each) => volt * each) / (down(g, column, (_, each) => each) + data.feedback) : 0);
    const currents = g.map((each, at) => each * (volts[Math.floor(at / columns)] - held[at % columns]));
    const sums = [];
    currents.forEach((current, at) => sums.push(current + (at < columns ? 0 : sums[at - columns])));
    const ends = sums.slice(-columns);
    return { g, held, currents, sums, ends, out: ends.map((end, at) => (broken === "amplifiers" ? held[at] : -end / data.feedback)) };
  };

  const chart = set(moving.drawing(400, 392, ""), { role: "group", "aria-label": "Cells of the array: arrow keys walk through them" });
  chart.style.flex = "1 1 330px";
  const X = (column) => 112 + 100 * column, Y = (row) => 54 + 74 * row, SIZE = 48;
  const text = (x, y, words, more = {}) => make("svg:text", { x, y, "font-size": 15, ...more }, words);
  const line = (d, colour, width = 2) => make("svg:path", { d, style: `fill:none;stroke:var(--${colour});stroke-width:${width}` });
  const wires = make("svg:g", { "pointer-events": "none" }), labels = make("svg:g", { "pointer-events": "none" });
  const squares = asked.map((_, at) => make("svg:rect", {
    x: X(at % columns) - SIZE / 2, y: Y(Math.floor(at / columns)) - SIZE / 2, width: SIZE, height: SIZE, rx: 3,
    onfocus: () => choose(at),
    onblur: () => draw(),
    onpointerenter: (event) => { if (event.pointerType === "mouse") { looked = at; draw(); } },
    onpointerleave: () => { looked = null; draw(); },
  }));
  chart.append(
    text(8, 16, "volts in", { class: "second" }), text(X(1), 16, "conductances in µS", { class: "second", "text-anchor": "middle" }),
    make("svg:rect", { x: 76, y: 24, width: 320, height: 238, rx: 10, style: "fill:var(--panel);stroke:var(--frame)" }),
    wires, ...squares, labels);

  const choose = (at) => {
    squares.forEach((square, each) => set(square, { tabindex: each === at ? "0" : "-1" }));
    chosen = at;
    looked = null;
    conductance.value = asked[at];
    draw();
  };

  const words = moving.sentence();
  words.style.flex = "1 1 200px";
  let state = {};
  const draw = () => {
    const is = solve(broken === "stuck"), was = solve(false), at = looked ?? chosen;
    const row = Math.floor(at / columns), column = at % columns, name = `row ${row + 1}, column ${column + 1}`;
    state = { ...is, volts: [...volts], chosen, broken };

    wires.replaceChildren();
    labels.replaceChildren();
    volts.forEach((volt, each) => {
      wires.append(line(`M62 ${Y(each)}H384`, "ink", 1.4 + 7 * volt), make("svg:circle", { cx: 62, cy: Y(each), r: 5, style: "fill:var(--paper);stroke:var(--ink);stroke-width:2" }));
      labels.append(text(54, Y(each) + 5, V(volt), { "text-anchor": "end", "font-weight": "bold" }));
    });
    is.sums.forEach((sum, each) => {
      const x = X(each % columns), y = Y(Math.floor(each / columns)), last = each >= is.sums.length - columns;
      const mine = each % columns === column && each >= at;
      wires.append(line(`M${x} ${y}V${last ? 284 : y + 74}`, mine ? "measured" : "array", Math.min(14, 1.2 + 0.2 * Math.abs(sum))));
      labels.append(text(x + 11, y + 42, µA(sum), { style: `fill:var(--${mine ? "measured" : "array"})`, "font-weight": last ? "bold" : null }));
    });
    for (let each = 0; each < columns; each += 1) {
      const x = X(each);
      if (broken === "amplifiers")
        labels.append(line(`M${x} 284V296M${x} 332V342M${x - 14} 342H${x + 14}`, "device"),
          make("svg:rect", { x: x - 7, y: 296, width: 14, height: 36, style: "fill:var(--paper);stroke:var(--device);stroke-width:2" }));
      else
        labels.append(line(`M${x} 284H${x - 34}V338H${x}M${x} 284V296M${x} 334V350`, "circuit"),
          make("svg:path", { d: `M${x - 21} 294H${x + 21}L${x} 334Z`, style: "fill:var(--panel);stroke:var(--circuit);stroke-width:2.4;stroke-linejoin:round" }),
          make("svg:rect", { x: x - 39, y: 300, width: 10, height: 24, style: "fill:var(--paper);stroke:var(--circuit);stroke-width:2" }));
      labels.append(make("svg:circle", { cx: x, cy: 284, r: 5, style: `fill:var(--paper);stroke:var(--${broken === "amplifiers" ? "device" : "circuit"});stroke-width:2` }),
        text(x, 370, fixed(is.out[each]), { "text-anchor": "middle", "font-weight": "bold" }));
      if (broken !== "amplifiers") labels.append(text(x + 11, 287, "0 V", { style: "fill:var(--circuit)" }));
    }
    labels.append(text(8, 317, `${data.feedback} µS`, { style: `fill:var(--${broken === "amplifiers" ? "device" : "circuit"})` }), text(8, 370, "volts out", { class: "second" }));
    is.g.forEach((g, each) => {
      const stuck = broken === "stuck" && each === chosen, back = is.currents[each] < -1e-9;
      const colour = each === at ? "measured" : stuck || back ? "device" : "paper";
      set(squares[each], {
        style: `fill:color-mix(in srgb, var(--array) ${Math.round((55 * g) / high)}%, var(--paper));stroke:var(--${colour});stroke-width:${squares[each].matches(":focus-visible") ? 6 : each === at ? 4 : 2}`,
        "aria-label": `row ${Math.floor(each / columns) + 1}, column ${(each % columns) + 1}: ${g} µS, ${µA(is.currents[each])}${stuck ? ", stuck" : ""}`,
      });
      const x = X(each % columns), y = Y(Math.floor(each / columns));
      labels.append(text(x, y + (back ? 0 : 6), g, { "text-anchor": "middle", "font-size": 17, "font-weight": "bold" }));
      if (back) labels.append(text(x, y + 17, "↑ back", { "text-anchor": "middle", "font-size": 13, style: "fill:var(--device)" }));
    });

    const say = (name, told) => make("span", { style: "display:block;margin-bottom:0.4em" }, make("strong", {}, name), ` ${told}`);
    const terms = volts.map((_, each) => amount(is.currents[each * columns + column]));
    const end = is.ends[column], equals = rounded() ? "≈" : "=", sum = terms.join(" + ").replaceAll("+ −", "− ");
    const seen = broken === "amplifiers" ? `(${fixed(volts[row])} − ${fixed(is.held[column])})` : V(volts[row]);
    words.replaceChildren(
      say("Ohm", `The cell in ${name} passes ${seen} × ${is.g[at]} µS ${equals} ${µA(is.currents[at])}.`),
      say("Kirchhoff", `Its column adds up to ${sum} ${equals} ${µA(end)}.`));
    if (broken === "amplifiers") {
      const back = is.currents.filter((current) => current < -1e-9).length;
      words.append(say("No amplifier", `A resistor of ${data.feedback} µS lets the column rise to ${fixed(is.held[column])}, and each cell sees that much less. ` +
        `Held at 0 V, it would pass ${µA(down(is.g, column, (volt, each) => volt * each))}. ${back ? `In ${back} of ${is.g.length} cells the current even runs backwards.` : ""}`));
    } else words.append(say("Amplifier", `It holds the column at 0 V and answers ${µA(-end)} ÷ ${data.feedback} µS = ${fixed(is.out[column])}.`));
    if (broken === "stuck") {
      const mine = chosen % columns, volt = volts[Math.floor(chosen / columns)], off = is.ends[mine] - was.ends[mine];
      words.append(say("Stuck", `The cell that is chosen is the stuck one. It was asked for ${asked[chosen]} µS and holds ${high}. ` +
        (off < 1e-9 ? "Even its own column is right." : `Column ${mine + 1} is off by ${V(volt)} × ${high - asked[chosen]} µS = ${µA(off)}, the others are right.`)));
    }
  };

  const conductance = moving.slider({ label: "chosen cell", min: low, max: high, step: 5, value: asked[chosen], say: (v) => `${v} µS`, change: (v) => { asked[chosen] = v; draw(); } });
  const inputs = volts.map((volt, row) => moving.slider({ label: `volts on row ${row + 1}`, min: 0, max: 0.5, step: 0.05, value: volt, say: V, change: (v) => { volts[row] = v; draw(); } }));
  const breaks = moving.choice({ label: "broken", options: { nothing: "nothing", stuck: "the chosen cell", amplifiers: "the amplifiers" }, value: broken, change: (v) => { broken = v; draw(); } });
  const again = moving.button("start again", () => {
    inputs.forEach((input, row) => { input.value = volts[row] = data.volts[row]; });
    data.cells.flat().forEach((value, at) => { asked[at] = value; });
    breaks.value = broken = "nothing";
    choose(0);
  });
  moving.walk(squares, columns, (at) => squares[at].focus());
  shown.append(
    moving.row(...inputs, conductance, breaks),
    make("div", { style: "display:flex;flex-wrap:wrap;gap:0 1.2rem;align-items:center" }, chart, words),
    moving.buttons(again),
    moving.note("Point at a cell, or choose one by click or arrow keys: its current, and its way down the column. Numbers on a column are running sums."),
  );
  draw();
  return () => state;
});
