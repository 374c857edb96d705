// Rows of weights on an array with broken cells: each order of the rows has its cost, and the best is found.
moving.define("rows-that-move", (shown, data) => {
  const { make, set } = moving;
  const [rows, columns] = data.shape, WRONG = 0.25; // of the largest weight: a weight that is not held
  const weight = (row, column) => data.weights[row * columns + column];
  const letters = "abcdefgh", straight = Array.from({ length: rows }, (_, row) => row);
  const broken = [...data.broken];
  let order = straight; // the row of the weights on each row of the array

  // What a cell makes of a weight, and what a row of weights costs on a row of the array: eq-cost with r = 2.
  const held = (w, state) => (state > 0 ? 1 : state < 0 ? 0 : w);
  const miss = (row, place, column) => held(weight(row, column), broken[place * columns + column]) - weight(row, column);
  const cost = (row, place) => Array.from({ length: columns }, (_, column) => miss(row, place, column) ** 2).reduce((a, b) => a + b);
  const total = (each) => each.reduce((sum, row, place) => sum + cost(row, place), 0);

  const orders = (rest) => (rest.length ? rest.flatMap((row) => orders(rest.filter((other) => other !== row)).map((more) => [row, ...more])) : [[]]);
  const every = orders(straight);
  const moved = (each) => each.filter((row, place) => row !== place).length;
  // The cheapest order; of several, one that moves the fewest rows.
  const best = (costs) => {
    const least = Math.min(...costs);
    return every.filter((_, n) => costs[n] < least + 1e-9).reduce((a, b) => (moved(b) < moved(a) ? b : a));
  };

  const SIZE = 44, LEFT = 26, TOP = 30, BAR = LEFT + columns * SIZE + 14, WIDE = 120;
  const foot = TOP + rows * SIZE, map = moving.drawing(360, foot + 78, "");
  map.style.maxWidth = "460px";
  set(map, { role: "group", "aria-label": "Cells of the array: arrow keys walk, Enter breaks one" });
  const word = (x, y, words, more = {}) => make("svg:text", { x, y, "font-size": 13, ...more }, words);
  const slow = matchMedia("(prefers-reduced-motion: reduce)").matches ? "none" : "transform 0.8s ease-in-out";
  const shade = (g) => `color-mix(in srgb, var(--array) ${Math.round(6 + 94 * g)}%, var(--paper))`;

  const squares = data.weights.map((_, at) => make("svg:rect", {
    x: LEFT + (at % columns) * SIZE + 2, y: TOP + Math.floor(at / columns) * SIZE + 2, width: SIZE - 4, height: SIZE - 4, rx: 3,
  }));
  // A row of weights, which moves as one.
  const bands = straight.map((row) => make("svg:g", { style: `transition:${slow};pointer-events:none` },
    word(12, SIZE / 2 + 5, letters[row], { "text-anchor": "middle", "font-weight": "bold", "font-size": 15, style: "fill:var(--circuit)" }),
    ...Array.from({ length: columns }, (_, column) => make("svg:circle", {
      cx: LEFT + (column + 0.5) * SIZE, cy: SIZE / 2, r: (14 * Math.sqrt(weight(row, column))).toFixed(2),
      fill: "var(--ink)", stroke: "var(--paper)", "stroke-width": 1.5,
    }))));
  const over = make("svg:g", { style: "pointer-events:none" });
  map.append(
    word(LEFT + (columns * SIZE) / 2, 18, "weights on cells", { "text-anchor": "middle", "font-weight": "bold" }),
    word(BAR, 18, "cost of a row", { style: "fill:var(--device)" }), ...squares, ...bands, over,
  );

  const press = (at) => {
    broken[at] = { 0: 1, 1: -1, "-1": 0 }[broken[at]];
    draw();
  };

  // Cells broken by chance, the same at every visit.
  let seed = 1;
  const uniform = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 4294967296;
  };
  const another = () => {
    broken.forEach((_, at) => {
      const u = uniform();
      broken[at] = u < 0.1 ? 1 : u > 0.9 ? -1 : 0;
    });
    order = straight;
    draw();
  };

  // How many of all orders cost how much, and where this one lies.
  const spread = (costs, here) => {
    const y = foot + 56, most = Math.max(...costs, 1e-9), x = (value) => LEFT + (value / most) * (360 - LEFT - 16), BINS = 48;
    const counts = new Array(BINS).fill(0);
    for (const value of costs) counts[Math.min(BINS - 1, Math.floor((value / most) * BINS))] += 1;
    const tall = Math.max(...counts);
    return [
      ...counts.map((count, n) => make("svg:rect", { x: x((n * most) / BINS), y: y - (26 * count) / tall, width: (x(most) - LEFT) / BINS - 0.6, height: (26 * count) / tall, fill: "var(--line)" })),
      make("svg:path", { d: `M${x(here)} ${y - 32}V${y + 4}`, stroke: "var(--device)", "stroke-width": 3 }),
      word(LEFT, y + 18, "0", { class: "second" }),
      word(360 - 16, y + 18, `${most.toFixed(1)}`, { class: "second", "text-anchor": "end" }),
      word(LEFT + (360 - LEFT - 16) / 2, y + 18, `all ${costs.length} orders, by cost`, { class: "second", "text-anchor": "middle" }),
    ];
  };

  const words = moving.sentence();
  let state = {};
  const draw = () => {
    const costs = every.map(total), now = total(order), came = total(straight);
    const least = Math.min(...costs), mean = moving.mean(costs), stuck = broken.filter(Boolean).length;
    const place = (row) => order.indexOf(row);
    let wrong = 0;
    over.replaceChildren();
    squares.forEach((square, at) => {
      const physical = Math.floor(at / columns), column = at % columns, state = broken[at], row = order[physical];
      const error = miss(row, physical, column), bad = Math.abs(error) > WRONG;
      wrong += bad;
      set(square, {
        fill: shade(held(weight(row, column), state)), stroke: state ? "var(--device)" : "var(--frame)", "stroke-width": state ? 3.5 : 1,
        "aria-label": `row ${physical + 1}, column ${column + 1}: ${state ? `stuck ${state > 0 ? "on" : "off"}` : "works"}; asked for ${weight(row, column).toFixed(2)}, holds ${held(weight(row, column), state).toFixed(2)}`,
      });
      if (!bad) return;
      const x = LEFT + (column + 1) * SIZE - 11, y = TOP + physical * SIZE + 11;
      over.append(
        make("svg:circle", { cx: x, cy: y, r: 8, fill: "var(--paper)" }),
        make("svg:path", { d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8`, stroke: "var(--device)", "stroke-width": 3 }),
      );
    });
    const longest = Math.max(1, ...straight.map((row) => cost(row, row)), ...order.map(cost));
    order.forEach((row, physical) => {
      const y = TOP + physical * SIZE, length = (value) => (WIDE - 36) * (value / longest), before = cost(physical, physical), here = cost(row, physical);
      over.append(
        make("svg:rect", { x: BAR, y: y + 13, width: length(before), height: SIZE - 26, fill: "none", stroke: moved(order) ? "var(--line)" : "none", "stroke-dasharray": "3 2" }),
        make("svg:rect", { x: BAR, y: y + 13, width: length(here), height: SIZE - 26, fill: "var(--device)" }),
        word(BAR + Math.max(length(here), length(before)) + 6, y + SIZE / 2 + 5, here.toFixed(2)),
      );
      bands[row].style.transform = `translateY(${TOP + place(row) * SIZE}px)`;
    });
    over.append(...spread(costs, now));
    state = { weights: data.weights, broken: [...broken], order: [...order], cost: now, came, best: least, mean, worst: Math.max(...costs), wrong };
    const say = (value) => value.toFixed(2);
    words.textContent = !stuck ? "No cell is broken: the rows cost nothing, whatever their order." :
      `${stuck} of ${broken.length} cells ${stuck === 1 ? "is" : "are"} broken. As the rows come, they cost about ${say(came)}` + (moved(order) ? `; in the order ${order.map((row) => letters[row]).join(", ")} they cost about ${say(now)}. ` : ". ") +
      (now < least + 1e-9 ? `No order costs less; the ${every.length} orders cost ${say(mean)} on average. ` : `The best order would cost ${say(least)}. `) +
      `${wrong || "No"} ${wrong > 1 ? "weights are" : "weight is"} off by more than a quarter of the largest.`;
  };

  shown.append(
    moving.buttons(
      moving.button("match the rows", () => { order = best(every.map(total)); draw(); }),
      moving.button("as they come", () => { order = straight; draw(); }),
      moving.button("another chip", another),
      moving.button("mend all cells", () => { broken.fill(0); draw(); }),
    ),
    map, words,
    moving.note("Press a cell: it is stuck on, then stuck off, then works again. Orange: a broken cell, crossed if it cannot hold its weight. A row costs the sum of its squared errors, in squares of the largest weight (rounded); dashed: what that row of the array cost before. The other cell of each pair works, and is not shown."),
  );
  moving.walk(squares, columns, press);
  draw();
  return () => state;
});
