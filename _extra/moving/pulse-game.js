// Pulses up and down to one cell: the walk that it takes, and a target to bring it to.
moving.define("pulse-game", (shown, data) => {
  const { make } = moving;
  const [low, high] = data.range, span = high - low, { levels } = data;
  const NEAR = 0.5, TARGETS = [40, 80, 25, 70, 50, 90, 30, 60]; // µS
  let kind = "imperfect", noise = 0, start = 94, goal = 0;
  let walk, moves; // conductances so far, and the pulses between them: up or not
  let reached, paired; // pulses after which the target was met first; conductance before the pairs

  // Conductance after one pulse up or down, without noise: cimlib.training.pulses.
  const pulse = (g, up) => {
    const a = data.cells[kind].a[up ? 0 : 1], x = (up ? 1 : -1) / levels;
    if (a === null) return Math.min(high, Math.max(low, g + x * span));
    const beyond = span / Math.expm1(1 / Math.abs(a));
    const remaining = a > 0 ? high - g + beyond : low - g - beyond;
    return Math.min(high, Math.max(low, g - remaining * Math.expm1(-x / a)));
  };

  // Standard normal numbers, the same at every visit.
  let seed = 7;
  const uniform = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

  const now = () => walk[walk.length - 1];
  const target = () => TARGETS[goal];
  const meets = (g) => Math.abs(g - target()) <= NEAR;
  const counted = (count) => `${count} pulse${count === 1 ? "" : "s"}`;
  const one = (up) => {
    const g = pulse(now(), up) + (noise ? noise * span * normal() : 0);
    walk.push(Math.min(high, Math.max(low, g)));
    moves.push(up);
    if (reached === null && meets(now())) reached = moves.length;
  };
  const send = (count, up) => { paired = null; for (let n = 0; n < count; n += 1) one(up); draw(); };
  const pairs = () => {
    paired = now();
    for (let n = 0; n < 50; n += 1) { one(true); one(false); }
    draw();
  };
  const again = () => { walk = [start]; moves = []; paired = null; reached = meets(start) ? 0 : null; };

  // A number of pulses that is enough without noise: all walks at once, those that meet within 0.01 µS as one.
  const enough = () => {
    let here = [start];
    const seen = new Set();
    for (let n = 0; here.length; n += 1) {
      if (here.some(meets)) return n;
      here = here.flatMap((g) => [pulse(g, true), pulse(g, false)]).filter((g) => {
        const place = Math.round(100 * g);
        return !seen.has(place) && seen.add(place);
      });
    }
    return null;
  };

  // Left the curve of the cell, up and down again; right the walk so far, and its pulses below.
  const TOP = 28, FOOT = 178, LEFT = [52, 176], RIGHT = [204, 394];
  const chart = moving.drawing(400, 232, "");
  chart.style.maxWidth = "560px";
  const y = (g) => FOOT - ((FOOT - TOP) * (g - low)) / span;
  const line = (points) => `M${points.map((at) => at.map((v) => v.toFixed(2)).join(" ")).join("L")}`;
  const put = (name, attributes, ...inside) => chart.append(make(`svg:${name}`, attributes, ...inside));
  const word = (x, at, words, more = {}) => put("text", { x, y: at, "font-size": 13, ...more }, words);
  const panel = ([from, to], middle) => {
    put("rect", { x: from, y: TOP, width: to - from, height: FOOT - TOP, fill: "var(--panel)" });
    if (middle !== null) put("path", { d: `M${from} ${y(middle)}H${to}`, stroke: "var(--line)", "stroke-width": 1.4, "stroke-dasharray": "5 4" });
  };
  const dot = (x, at, r = 5) => put("circle", { cx: x, cy: at, r, fill: "var(--device)", stroke: "var(--paper)", "stroke-width": 1.5 });

  const curves = () => [true, false].map((up) => {
    const curve = [up ? low : high];
    for (let n = 0; n < levels; n += 1) curve.push(pulse(curve[n], up));
    return curve;
  });

  const drawCurve = (middle) => {
    const [from, to] = LEFT, x = (n) => from + ((to - from) * n) / (2 * levels);
    panel(LEFT, middle);
    word((from + to) / 2, 18, "its curve", { "text-anchor": "middle", "font-weight": "bold" });
    for (const g of data.range) word(from - 6, y(g) + 4, `${g} µS`, { "text-anchor": "end", class: "second" });
    curves().forEach((curve, side) => {
      put("path", { d: line(curve.map((g, n) => [x(n + side * levels), y(g)])), fill: "none", stroke: "var(--device)", "stroke-width": 2, "stroke-opacity": 0.55 });
      const past = curve.findIndex((g) => (side ? g <= now() : g >= now())), n = past < 0 ? levels : past;
      const back = n ? (curve[n] - now()) / (curve[n] - curve[n - 1]) : 0, at = x(n - back + side * levels);
      const slope = y(pulse(now(), side === 0)) - y(now()), run = x(1) - x(0);
      const half = 22 / Math.hypot(run, slope), [before, after] = [-half, half].map((by) => {
        const fits = Math.min(FOOT, Math.max(TOP, y(now()) + by * slope)); // within the panel
        const part = slope ? (fits - y(now())) / slope : by;
        return [at + part * run, y(now()) + part * slope];
      });
      put("path", { d: line([before, after]), fill: "none", stroke: "var(--ink)", "stroke-width": 2 });
      dot(at, y(now()));
    });
    word((from + to) / 2, 200, `${levels} up, ${levels} down`, { "text-anchor": "middle", class: "second" });
  };

  const drawWalk = (middle) => {
    const [from, to] = RIGHT, sent = moves.length, most = Math.max(50, sent);
    const x = (n) => from + ((to - from - 8) * n) / most;
    panel(RIGHT, middle);
    word((from + to) / 2, 18, "your pulses", { "text-anchor": "middle", "font-weight": "bold" });
    put("rect", { x: from, y: y(target() + NEAR), width: to - from, height: y(target() - NEAR) - y(target() + NEAR), fill: "var(--circuit)" });
    word(to - 4, y(target()) + (start > target() ? 16 : -7), `target ${target()} µS`, { "text-anchor": "end", style: "fill:var(--circuit)" });
    put("path", { d: line(walk.map((g, n) => [x(n), y(g)])), fill: "none", stroke: "var(--device)", "stroke-width": 2, "stroke-linejoin": "round" });
    if (reached !== null) put("circle", { cx: x(reached), cy: y(walk[reached]), r: 8, fill: "none", stroke: "var(--circuit)", "stroke-width": 2.5 });
    dot(x(sent), y(now()));
    const ticks = moves.map((up, n) => `M${x(n + 0.5).toFixed(2)} 196v${up ? -10 : 10}`).join("");
    put("path", { d: `M${from} 196H${to}`, stroke: "var(--line)", "stroke-width": 1 });
    put("path", { d: ticks, stroke: "var(--ink)", "stroke-width": Math.min(2.2, 95 / most).toFixed(2) });
    word(from, 226, "0", { class: "second" });
    word(to, 226, `${most} pulses`, { "text-anchor": "end", class: "second" });
  };

  // Where a pulse up and one down move the cell as far, if they do so at one conductance alone.
  const balance = () => {
    const [up, down] = data.cells[kind].a;
    if (up === null || Math.sign(up) === Math.sign(down)) return null;
    let from = low, to = high;
    for (let n = 0; n < 60; n += 1) {
      const g = (from + to) / 2;
      if (pulse(g, true) - g > g - pulse(g, false)) from = g;
      else to = g;
    }
    return from;
  };

  const words = moving.sentence();
  let state = {};
  const draw = () => {
    const g = now(), sent = moves.length, ups = moves.filter(Boolean).length, least = enough(), middle = balance();
    const to = { up: pulse(g, true) - g, down: g - pulse(g, false) };
    state = { kind, noise, start, target: target(), g, sent, ups, reached, enough: least, balance: middle, step: to, walk: [...walk] };
    chart.replaceChildren();
    drawCurve(middle);
    drawWalk(middle);
    chart.setAttribute("aria-label", `Conductance of the cell, from ${walk[0].toFixed(1)} µS over ${counted(sent)} to ${g.toFixed(1)} µS; the target is ${target()} µS`);
    const off = g - target();
    const met = reached === null ? `The target is ${Math.abs(off).toFixed(1)} µS ${off > 0 ? "below" : "above"}.`
      : `Target reached with ${counted(reached)}; ${least} ${least === 1 ? "is" : "are"} enough${noise ? " without noise" : ""}.${meets(g) ? "" : " The cell has left it since."}`;
    words.textContent = (paired === null ? "" : `Fifty pulses up and fifty down took the cell from ${paired.toFixed(1)} to ${g.toFixed(1)} µS. `) +
      `${sent ? `${counted(sent)} sent, ${ups} up and ${sent - ups} down` : "No pulse sent"}: ${g.toFixed(1)} µS. ` +
      `Here a pulse up adds ${to.up.toFixed(1)} µS${noise ? " on average" : ""}, one down takes ${to.down.toFixed(1)} µS. ${met}`;
  };

  const options = Object.fromEntries(Object.entries(data.cells).map(([key, { said }]) => [key, said]));
  const anew = () => { again(); draw(); };
  shown.append(
    moving.row(
      moving.choice({ label: "cell", options, value: kind, change: (v) => { kind = v; anew(); } }),
      moving.slider({ label: "start", min: low, max: high, step: 1, value: start, say: (v) => `${v} µS`, change: (v) => { start = v; anew(); } }),
      moving.slider({ label: "noise of a pulse", min: 0, max: 0.03, step: 0.005, value: noise, say: (v) => (v ? `${(100 * v).toFixed(1)} %` : "none"), change: (v) => { noise = v; draw(); } }),
    ),
    moving.note(`Bring the cell to the target with as few pulses as you can. Within ${NEAR} µS counts as reached.`),
    chart,
    moving.buttons(
      moving.button("1 up", () => send(1, true)), moving.button("1 down", () => send(1, false)),
      moving.button("10 up", () => send(10, true)), moving.button("10 down", () => send(10, false)),
    ),
    moving.buttons(
      moving.button("fifty pairs up and down", pairs), moving.button("start again", anew),
      moving.button("another target", () => { goal = (goal + 1) % TARGETS.length; anew(); }),
    ),
    words,
    moving.note("NL says how much the curve of a cell bends. Left: the cell on its curve, and how steep that is there, up and down. Dashed: where a pulse up and one down move the cell as far. Noise: its standard deviation, in per cent of the range."),
  );
  anew();
  return () => state;
});
