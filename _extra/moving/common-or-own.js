// Common or own? What chips have lost, weight by weight: the mean of all chips, and how far one chip lies from it.
moving.define("common-or-own", (shown, data) => {
  const { make, set } = moving;
  const CELLS = {
    pcm: { name: "Phase change (PCM)", more: "", ends: [-2.5, 2], tick: 1, how: "each weight comes to lose a part of itself, about the same part. One factor gives it back." },
    "cmo, 2 %": { name: "CMO/HfOₓ ReRAM", more: ", written to within 2 %", ends: [-0.6, 0.9], tick: 0.3, how: "each weight comes to lose about the same amount, but no more than it has. No factor gives that back: large weights get too much of it, small ones too little." },
  };
  const DONE = { none: "nothing done", global: "one factor a layer", mean: "the factor, then the mean repair" };
  const sizes = moving.unpacked(data.sizes, data.step);
  const errors = Object.fromEntries(Object.entries(data.cells).map(([cell, { errors: text }]) => [cell, moving.unpacked(text, data.step)]));
  let cell = "pcm", time = data.times.length - 1, done = "none", picked = 7;

  // Errors of a chip's weights, positive where a weight has become larger, in units of the rms weight.
  const bare = (chip) => {
    const first = (time * data.chips + chip) * sizes.length;
    const factor = done === "none" ? 1 : data.cells[cell].factors[time][chip];
    return Array.from(sizes, (size, at) => factor * (size + errors[cell][first + at]) - size);
  };

  const WIDTH = 350, LEFT = 52, TOP = 30, BOTTOM = 272;
  const plot = moving.drawing(WIDTH, 316, ""), bars = moving.drawing(280, 172, "");
  plot.style.flex = "1 1 340px";
  bars.style.flex = "1 1 250px";
  const text = (where, words) => make("svg:text", { "font-size": 12, ...where }, words);
  const percent = (value) => `${Math.round(100 * value)} %`.replace("-", "−");
  const one = (value) => value.toFixed(1);
  const x = (size) => LEFT + 6 + ((WIDTH - LEFT - 20) * size) / 3.6;
  const words = moving.sentence(), how = moving.note("");
  let state = {};
  const draw = () => {
    const all = Array.from({ length: data.chips }, (_, chip) => bare(chip));
    const common = Array.from(sizes, (_, at) => moving.mean(all.map((each) => each[at])));
    const mended = (values) => values.map((value, at) => value - (done === "mean" ? common[at] : 0));
    const middle = mended(common), mine = mended(all[picked]);
    const before = data.cells[cell].parts.none[time], after = data.cells[cell].parts.global[time];
    const [shared, own] = done === "none" ? before : done === "global" ? after : [0, after[1]];
    const share = (100 * shared ** 2) / (shared ** 2 + own ** 2);
    state = { cell, time: data.times[time], done, picked, common: shared, own, share, middle, mine };

    const { ends: [lowest, highest], tick, name, more } = CELLS[cell];
    const y = (error) => BOTTOM - ((BOTTOM - TOP) * (error - lowest)) / (highest - lowest);
    plot.replaceChildren(text({ x: 6, y: 16, class: "second" }, "what a weight has gained or lost"),
      text({ x: WIDTH - 6, y: 310, "text-anchor": "end", class: "second" }, "size of the weight asked for (rms weight = 100 %)"));
    for (let k = Math.ceil(lowest / tick); k * tick <= highest; k += 1)
      plot.append(make("svg:line", { x1: LEFT, x2: WIDTH - 6, y1: y(k * tick), y2: y(k * tick), style: `stroke:var(--${k ? "frame" : "line"})` }),
        text({ x: LEFT - 6, y: y(k * tick) + 4, "text-anchor": "end", class: "second" }, percent(k * tick)));
    for (let size = 0; size <= 3; size += 1) plot.append(text({ x: x(size), y: BOTTOM + 18, "text-anchor": "middle", class: "second" }, percent(size)));
    plot.append(...mine.map((error, at) => make("svg:line", { x1: x(sizes[at]), x2: x(sizes[at]), y1: y(middle[at]), y2: y(error), style: "stroke:var(--line);stroke-width:2" })),
      ...mine.map((error, at) => make("svg:circle", { cx: x(sizes[at]), cy: y(error), r: 2.6, style: "fill:var(--device)" })),
      ...middle.map((error, at) => make("svg:circle", { cx: x(sizes[at]), cy: y(error), r: 2.6, style: "fill:var(--ink)" })));

    const long = (part) => (part * 215) / 60;
    bars.replaceChildren(text({ x: 6, y: 16, class: "second" }, "error, % of the weights (rms)"));
    [["common to all chips", shared, before[0], "ink"], ["each chip's own", own, before[1], "line"]].forEach(([label, part, was, colour], row) => {
      const top = 56 + 72 * row;
      bars.append(text({ x: 6, y: top - 8, "font-size": 13 }, label),
        make("svg:rect", { x: 6, y: top, width: long(part), height: 32, style: `fill:var(--${colour})` }),
        make("svg:rect", { x: 6, y: top, width: long(was), height: 32, style: "fill:none;stroke:var(--second);stroke-dasharray:4 3" }),
        text({ x: 12 + long(Math.max(part, was)), y: top + 21, "font-size": 13, "font-weight": "bold" }, `${one(part)} %`));
    });

    for (const [key, press] of Object.entries(presses)) set(press, { "aria-pressed": key === done });
    set(plot, { "aria-label": `Changes of ${sizes.length} weights against their sizes: the mean of ${data.chips} chips, from ${percent(Math.min(...middle))} to ${percent(Math.max(...middle))}, and chip ${picked}, from ${percent(Math.min(...mine))} to ${percent(Math.max(...mine))}` });
    set(bars, { "aria-label": `Two bars: common to all chips ${one(shared)} %, each chip's own ${one(own)} %; outlined, with nothing done: ${one(before[0])} and ${one(before[1])} %` });
    how.textContent = `${name}: ${CELLS[cell].how}`;
    words.textContent = `${name}${more}, ${data.times[time]} after programming, ${DONE[done]}. The error that is common to ${data.chips} chips is ${one(shared)} % of the weights, ` +
      `each chip's own is ${one(own)} % (root mean square, all ${data.weights.toLocaleString("en")} weights of the layer). ` + {
        none: `Of the squared error ${Math.round(share)} % is common.`,
        global: `Of the squared error ${Math.round(share)} % is common. With nothing done they are ${one(before[0])} and ${one(before[1])} %. The factor multiplies each chip's own errors, too.`,
        mean: "Every weight has its mean loss back, so nothing in common is left. In squared error, nothing that is added alike to all chips mends the rest.",
      }[done];
  };

  const presses = Object.fromEntries(Object.entries(DONE).map(([key, name]) => [key, moving.button(name, () => { done = key; draw(); })]));
  shown.append(
    moving.row(
      moving.choice({ label: "cells", options: Object.fromEntries(Object.entries(CELLS).map(([key, { name }]) => [key, name])), value: cell, change: (v) => { cell = v; draw(); } }),
      moving.slider({ label: "time", min: 0, max: time, step: 1, value: time, say: (v) => data.times[v], change: (v) => { time = v; draw(); } }),
      moving.slider({ label: "chip", min: 0, max: data.chips - 1, step: 1, value: picked, change: (v) => { picked = v; draw(); } }),
    ),
    moving.buttons(...Object.values(presses)),
    make("div", { style: "display:flex;flex-wrap:wrap;justify-content:center;align-items:center;gap:.3rem" }, plot, bars),
    moving.note(`A pair of dots is a weight: the mean of ${data.chips} chips and, in orange, the picked chip. The line between them is that chip's own part. Dashed: nothing done.`),
    words, how,
  );
  draw();
  return () => state;
});
