// Ten years on one slider: what remedies leave of the accuracy of ten chips, at the times of the record.
moving.define("ten-years", (shown, data) => {
  const { make, set } = moving;
  const NAMES = {
    none: ["nothing", "", "second"], global: ["one factor", "a layer", "device"],
    batchnorm: ["BatchNorm", "anew", "measured"], dora: ["DoRA,", "r = 2", "array"],
  };
  const SAID = { none: "nothing", global: "one factor a layer", batchnorm: "BatchNorm anew", dora: "DoRA" };
  const CELLS = { pcm: "Phase change (PCM)", "cmo, 2 %": "CMO/HfOₓ ReRAM" };
  const TOLD = { pcm: CELLS.pcm, "cmo, 2 %": `${CELLS["cmo, 2 %"]}, written to within 2 %` };
  const SHORT = ["1 s", "1 h", "1 d", "1 mo", "1 y", "10 y"];
  const T = 2.262157; // Student's t, 95 %, ten chips
  const last = data.times.length - 1, chips = data.cells.pcm.undrifted.length;
  let cell = "pcm", at = last, picked = 3, near = false;

  const sample = (values) => {
    const mean = moving.mean(values), half = (T * moving.spread(values)) / Math.sqrt(values.length);
    return { mean, low: mean - half, high: mean + half };
  };
  const one = (value, digits = 1) => (+value.toFixed(digits) + 0).toFixed(digits).replace("-", "−"); // no −0.0
  const range = ({ low, high }, digits = 1) => `${one(low, digits)} to ${one(high, digits)}`;
  // How values stand to others, pair by pair; an end near 0 has two digits, which tell its side.
  const against = (pairs, other) => {
    const { mean, low, high } = pairs, digits = Math.min(Math.abs(low), Math.abs(high)) < 0.05 ? 2 : 1;
    if (low > 0) return `${one(mean, digits)} points more than ${other} (${range(pairs, digits)})`;
    if (high < 0) return `${one(-mean, digits)} points less than ${other} (${range({ low: -high, high: -low }, digits)})`;
    return `no different from ${other} as far as ${chips} chips tell (${range(pairs, digits)} points)`;
  };
  const ways = Object.keys(NAMES);
  const colour = (way) => `var(--${NAMES[way][2]})`;

  // Both panels share the axis of accuracy; a chip below its end is a triangle that points there.
  const WIDTH = 340, HEIGHT = 320, TOP = 62, BOTTOM = 280, LEFT = 40;
  const ends = () => (near ? [55, 85] : [0, 90]);
  const y = (value) => BOTTOM - ((BOTTOM - TOP) * (value - ends()[0])) / (ends()[1] - ends()[0]);
  const x = (step) => LEFT + 10 + ((WIDTH - LEFT - 30) * Math.log10(data.seconds[step])) / Math.log10(data.seconds[last]);
  const text = (where, words) => make("svg:text", { "font-size": 12, ...where }, words);
  const line = (style, x1, y1, x2, y2) => make("svg:line", { x1, y1, x2, y2, style });
  const curves = moving.drawing(WIDTH, HEIGHT, ""), strip = moving.drawing(WIDTH, HEIGHT, "");
  for (const panel of [curves, strip]) panel.style.flex = "1 1 300px";
  const frame = (panel) => {
    const [lowest, highest] = ends();
    panel.replaceChildren();
    for (let value = lowest; value <= highest; value += near ? 5 : 20)
      panel.append(line("stroke:var(--frame)", LEFT, y(value), WIDTH, y(value)), text({ x: LEFT - 6, y: y(value) + 4, "text-anchor": "end", class: "second" }, `${value} %`));
    const fresh = moving.mean(data.cells[cell].undrifted);
    panel.append(line("stroke:var(--ink)", LEFT, y(data.clean), WIDTH, y(data.clean)),
      line("stroke:var(--ink);stroke-dasharray:5 4", LEFT, y(fresh), WIDTH, y(fresh)));
  };

  const spot = (at, value, r, fill) => (value >= ends()[0]
    ? make("svg:circle", { cx: at, cy: y(value), r, style: `fill:${fill}` })
    : make("svg:path", { d: `M${at - r},${BOTTOM - 4}h${2 * r}l${-r},${1.6 * r}z`, style: `fill:${fill}` }));

  const words = moving.sentence();
  let state = {};
  const draw = () => {
    const { read, undrifted, bound } = data.cells[cell];
    const now = Object.fromEntries(ways.map((way) => [way, sample(read[way][at])]));
    const simple = now.global.mean > now.batchnorm.mean ? "global" : "batchnorm";
    const lead = sample(read.dora[at].map((value, chip) => value - read[simple][at][chip]));
    const kept = sample(read.dora[at].map((value, chip) => value - undrifted[chip]));
    const accuracies = Object.fromEntries(ways.map((way) => [way, read[way][at]]));
    state = { cell, time: data.times[at], picked, accuracies, now, simple, lead, kept };

    frame(curves);
    curves.append(text({ x: LEFT, y: 16, class: "second" }, "mean accuracy, against time"),
      text({ x: LEFT, y: 34, class: "second" }, "solid: digital network; dashed: just programmed"),
      text({ x: LEFT, y: 50, class: "second" }, bound ? "dash-dotted: every weight retrained" : ""),
      line("stroke:var(--ink);stroke-width:1.5", x(at), TOP, x(at), BOTTOM));
    SHORT.forEach((name, step) => curves.append(text({ x: x(step), y: BOTTOM + 18, "text-anchor": "middle", class: "second", style: step === at ? "fill:var(--ink);font-weight:bold" : "" }, name)));
    const inside = make("svg:svg", { x: 0, y: 0, width: WIDTH, height: BOTTOM, viewBox: `0 0 ${WIDTH} ${BOTTOM}` });
    const path = (steps, means, style) => inside.append(make("svg:polyline", { points: steps.map((step, k) => `${x(step)},${y(means[k])}`).join(" "), style: `fill:none;stroke-width:2;${style}` }));
    if (bound) path(bound.times.map((time) => data.times.indexOf(time)), bound.read.map(moving.mean), "stroke:var(--ink);stroke-width:1.6;stroke-dasharray:11 8 2 8");
    curves.append(inside);
    for (const way of ways) {
      path(data.times.map((_, step) => step), read[way].map(moving.mean), `stroke:${colour(way)}`);
      if (now[way].mean >= ends()[0]) curves.append(make("svg:circle", { cx: x(at), cy: y(now[way].mean), r: 4.5, style: `fill:${colour(way)}` }));
    }

    frame(strip);
    strip.append(text({ x: LEFT, y: 16, class: "second" }, `mean of ${chips} chips, 95 % interval, each chip`));
    const mine = [], others = [], SLOT = 6.2;
    ways.forEach((way, column) => {
      const start = LEFT + 8 + 75 * column, middle = start + (SLOT * (chips - 1)) / 2, { mean, low, high } = now[way];
      if (low >= ends()[0]) strip.append(
        make("svg:rect", { x: start - 5, y: y(high), width: SLOT * (chips - 1) + 10, height: Math.max(1, y(low) - y(high)), style: `fill:${colour(way)};fill-opacity:.25` }),
        line(`stroke:${colour(way)};stroke-width:2`, start - 5, y(mean), start + SLOT * (chips - 1) + 5, y(mean)));
      strip.append(...NAMES[way].slice(0, 2).map((name, row) => text({ x: middle, y: BOTTOM + 18 + 15 * row, "text-anchor": "middle", style: `fill:${colour(way)}` }, name)));
      read[way][at].forEach((value, chip) => {
        const dot = spot(start + SLOT * chip, value, chip === picked ? 4.5 : 3.2, colour(way));
        if (chip === picked) dot.style.cssText += ";stroke:var(--ink);stroke-width:2";
        (chip === picked ? mine : others).push(dot);
      });
      strip.append(text({ x: middle, y: 36, "text-anchor": "middle", "font-weight": "bold" }, `${one(mean)}${mean < ends()[0] ? " ↓" : ""}`),
        text({ x: middle, y: 51, "text-anchor": "middle", class: "second" }, `${one(low)}–${one(high)}`));
    });
    strip.append(...others, ...mine);

    const told = ways.map((way) => `${SAID[way]} ${one(now[way].mean)} %`).join(", ");
    set(curves, { "aria-label": `Four curves of mean accuracy over the logarithm of time, with a line at ${data.times[at]}: ${told}` });
    set(strip, { "aria-label": `A dot for each of ${chips} chips under each remedy, chip ${picked} with a ring: ${ways.map((way) => `${SAID[way]} ${one(read[way][at][picked])} %`).join(", ")}` });
    words.textContent = `${TOLD[cell]}, ${data.times[at]} after programming; means of ${chips} chips, with 95 % intervals. With nothing done: ${one(now.none.mean)} % (${range(now.none)}). ` +
      `Of the simpler two remedies ${SAID[simple]} has the higher mean, ${one(now[simple].mean)} % (${range(now[simple])}). ` +
      `DoRA has ${one(now.dora.mean)} % (${range(now.dora)}). Chip by chip that is ${against(lead, SAID[simple])}, and ${against(kept, "the same chips just programmed")}. ` +
      `Chip ${picked}, with a ring, had ${one(undrifted[picked])} % just programmed; now ${one(read.global[at][picked])} % with the factor, ` +
      `${one(read.batchnorm[at][picked])} % with BatchNorm, ${one(read.dora[at][picked])} % with DoRA.`;
  };

  const closer = moving.button("look closer: 55 to 85 %", () => {
    near = !near;
    set(closer, { "aria-pressed": near });
    draw();
  });
  set(closer, { "aria-pressed": near });
  shown.append(
    moving.row(
      moving.slider({ label: "time", min: 0, max: last, step: 1, value: at, say: (v) => data.times[v], change: (v) => { at = v; draw(); } }),
      moving.choice({ label: "cells", options: CELLS, value: cell, change: (v) => { cell = v; draw(); } }),
      moving.slider({ label: "chip", min: 0, max: chips - 1, step: 1, value: picked, change: (v) => { picked = v; draw(); } }),
    ),
    make("div", { style: "display:flex;flex-wrap:wrap;justify-content:center;gap:.3rem" }, curves, strip),
    moving.buttons(closer), words,
  );
  draw();
  return () => state;
});
