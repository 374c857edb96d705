// A hundred chips of one network on iris: the cells of one, and how many flowers each gets right.
moving.define("hundred-chips", (shown, data) => {
  const { make, set } = moving;
  const [low, high] = data.range;
  const kept = Object.fromEntries(Object.entries(data.draws).map(([array, text]) => [array, moving.unpacked(text, data.step)]));
  const inputs = data.layers[0].shape[1];
  const flowers = data.kinds.map((_, at) => data.flowers.slice(at * inputs, (at + 1) * inputs));
  const stuck = new Map(); // "array chip place" → conductance
  const MISSED = 0.1; // of the range: of what is marked
  let sigma = 0.1, array = "pair", picked = 7;

  const sides = () => (array === "pair" ? 2 : 1);
  const asked = data.layers.map(({ weights }) => {
    const most = Math.max(...weights.map(Math.abs));
    return {
      pair: [1, -1].map((sign) => weights.map((w) => low + ((high - low) * Math.max(sign * w, 0)) / most)),
      single: [weights.map((w) => (low + high) / 2 + ((high - low) * w) / (2 * most))],
      scale: { pair: (high - low) / most, single: (high - low) / (2 * most) },
    };
  });
  const cells = data.layers.reduce((sum, { weights }) => sum + weights.length, 0);

  // Conductances that a chip obtains, layer by layer and side by side.
  const obtained = (chip, broken = true) => {
    let at = chip * cells * sides(), place = 0;
    return asked.map((layer) => layer[array].map((target) => target.map((g) => {
      const got = Math.min(high, Math.max(low, g + sigma * (high - low) * kept[array][at]));
      at += 1;
      const fixed = stuck.get(`${array} ${chip} ${place++}`);
      return broken ? fixed ?? got : got;
    })));
  };

  // The weights that a chip amounts to, layer by layer.
  const amounted = (chip, broken = true) => {
    const got = obtained(chip, broken);
    return data.layers.map(({ weights }, layer) => weights.map((value, at) => {
      const error = got[layer].map((g, side) => g[at] - asked[layer][array][side][at]);
      return value + (error[0] - (error[1] ?? 0)) / asked[layer].scale[array];
    }));
  };

  const accuracy = (weights) => {
    const right = flowers.filter((flower, number) => {
      let x = flower;
      data.layers.forEach(({ shape: [outputs, width], biases }, layer) => {
        const y = biases.map((bias, out) => x.reduce((sum, value, at) => sum + value * weights[layer][out * width + at], bias));
        x = layer < data.layers.length - 1 ? y.map((value) => Math.max(value, 0)) : y;
      });
      return x.indexOf(Math.max(...x)) === data.kinds[number];
    });
    return (100 * right.length) / flowers.length;
  };

  // The cells of the picked chip: a block a layer and side, rows the inputs, columns the outputs.
  const SIZE = 21, chart = moving.drawing(560, 208, ""), map = moving.drawing(384, 334, "");
  set(map, { role: "group", "aria-label": "Cells of the picked chip: arrow keys walk, Enter sticks one" });
  const shade = (g) => `color-mix(in srgb, var(--array) ${Math.round(6 + (94 * (g - low)) / (high - low))}%, var(--paper))`;
  let squares = [], marks = [], names = [];
  const lay = () => {
    map.replaceChildren();
    squares = [];
    names = [];
    let y = 14;
    data.layers.forEach(({ shape: [outputs, width] }, layer) => {
      for (let side = 0; side < sides(); side += 1) {
        const x = 4 + side * 194, title = `layer ${layer + 1}${sides() === 1 ? "" : side ? ", subtracted" : ", added"}`;
        map.append(make("svg:text", { x, y, "font-size": 14, class: "second" }, title));
        for (let out = 0; out < outputs; out += 1)
          for (let row = 0; row < width; row += 1) {
            names.push(`${title}, row ${row + 1}, column ${out + 1}`);
            squares.push(make("svg:rect", { x: x + out * (SIZE + 2), y: y + 8 + row * (SIZE + 2), width: SIZE, height: SIZE, rx: 3 }));
          }
      }
      y += 30 + width * (SIZE + 2);
    });
    marks = squares.map((square) => make("svg:circle", { cx: +square.getAttribute("x") + SIZE / 2, cy: +square.getAttribute("y") + SIZE / 2, r: 3.5, "pointer-events": "none" }));
    map.append(...squares, ...marks);
    moving.walk(squares, 4, press);
  };

  const press = (at) => {
    const key = `${array} ${picked} ${at}`, now = stuck.get(key);
    if (now === undefined) stuck.set(key, high);
    else if (now === high) stuck.set(key, low);
    else stuck.delete(key);
    draw();
  };

  const software = accuracy(data.layers.map(({ weights }) => weights));
  const words = moving.sentence(), told = moving.note("");
  let state = {};
  const draw = () => {
    const all = Array.from({ length: data.chips }, (_, chip) => accuracy(amounted(chip)));
    const held = [...stuck.keys()].filter((key) => key.startsWith(`${array} ${picked} `));
    const whole = all.map((value, chip) => (chip === picked && held.length ? accuracy(amounted(chip, false)) : value));
    const middle = moving.mean(whole), half = (1.984217 * moving.spread(whole)) / Math.sqrt(data.chips);
    state = { sigma, array, picked, accuracies: all, mean: middle, low: middle - half, high: middle + half };

    const got = obtained(picked).flat(2), wanted = asked.flatMap((layer) => layer[array].flat());
    const missed = (at) => Math.abs(got[at] - wanted[at]) > MISSED * (high - low);
    squares.forEach((square, at) => {
      const fixed = stuck.get(`${array} ${picked} ${at}`);
      const how = fixed === undefined ? "" : fixed === high ? ", stuck on" : ", stuck off";
      set(square, {
        style: `fill:${shade(got[at])};stroke:${how ? "var(--device)" : "var(--frame)"};stroke-width:${how ? 3 : 1}`,
        "aria-label": `${names[at]}: ${got[at].toFixed(0)} µS, asked for ${wanted[at].toFixed(0)}${how}`,
      });
    });

    marks.forEach((mark, at) => set(mark, { style: `fill:var(--device);stroke:var(--paper);visibility:${missed(at) ? "visible" : "hidden"}` }));

    const x = (value) => 20 + 5.2 * value, stacks = new Map();
    chart.replaceChildren();
    for (let value = 0; value <= 100; value += 20)
      chart.append(make("svg:text", { x: x(value), y: 200, "font-size": 13, "text-anchor": "middle", class: "second" }, `${value} %`),
        make("svg:line", { x1: x(value), x2: x(value), y1: 10, y2: 184, style: "stroke:var(--frame)" }));
    const most = Math.max(...all.map((value) => all.filter((other) => other === value).length));
    const step = Math.min(9, 165 / most);
    let mine = null;
    all.forEach((value, chip) => {
      const under = stacks.get(value) ?? 0;
      stacks.set(value, under + 1);
      const dot = make("svg:circle", { cx: x(value), cy: 180 - under * step, r: 4.2, style: `fill:${chip === picked ? "var(--device)" : "var(--array)"};fill-opacity:${chip === picked ? 1 : 0.55}` });
      if (chip === picked) mine = set(dot, { r: 6 });
      else chart.append(dot);
    });
    chart.append(make("svg:line", { x1: x(middle), x2: x(middle), y1: 10, y2: 184, style: "stroke:var(--ink);stroke-width:2" }), mine);
    const one = (value) => value.toFixed(1);
    const off = squares.filter((_, at) => missed(at)).length;
    set(chart, { "aria-label": `A dot for each chip over its accuracy: from ${one(Math.min(...all))} to ${one(Math.max(...all))} %` });
    const sure = half > 0 ? ` (95 % interval of the mean: ${one(state.low)} to ${one(state.high)} %)` : "";
    words.textContent = `${data.chips} chips of one network, tested on ${data.kinds.length} flowers: ${one(middle)} % are told right on ` +
      `average${sure}, from ${one(Math.min(...whole))} to ${one(Math.max(...whole))} %; in software ${one(software)} %. ` +
      `Chip ${picked}, in orange: ${one(all[picked])} %${held.length ? `, with ${held.length} of its cells stuck by you; without, ${one(whole[picked])} %` : ""}.`;
    told.textContent = `The stronger its colour, the more a cell conducts. A dot: it misses what was asked for by more than ` +
      `${100 * MISSED} % of the range (${off} of ${squares.length} on this chip).${sigma && array === "pair" ? " A cell that should hold the least can only miss upwards." : ""} ` +
      `Press a cell: it is stuck on, then stuck off, then free again.`;
  };

  shown.append(
    moving.row(
      moving.slider({ label: "spread σ of a cell", min: 0, max: 0.6, step: 0.01, value: sigma, say: (v) => `${Math.round(100 * v)} % of its range`, change: (v) => { sigma = v; draw(); } }),
      moving.choice({ label: "array", options: { pair: "two cells a weight", single: "one cell a weight" }, value: array, change: (v) => { array = v; lay(); draw(); } }),
      moving.slider({ label: "chip", min: 0, max: data.chips - 1, step: 1, value: picked, change: (v) => { picked = v; draw(); } }),
    ),
    chart, words, told, map,
    moving.buttons(moving.button("mend this chip", () => {
      for (const key of [...stuck.keys()]) if (key.startsWith(`${array} ${picked} `)) stuck.delete(key);
      draw();
    })),
  );
  lay();
  draw();
  return () => state;
});
