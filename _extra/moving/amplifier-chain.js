// The amplifier chain: what offsets, finite gain and rails make of one neuron, on many chips at once.
moving.define("amplifier-chain", (shown, data) => {
  const { make, set } = moving;
  const draws = moving.unpacked(data.draws, data.step), [bottom, top] = data.rails, SPAN = data.span;
  const gains = [...data.gains, Infinity];
  let rows = 5, weight = 0.1, sigma = 10, gain = 1369, signal = 0, chip = 7, railed = true;

  const signed = (value) => `${["−", "", "+"][Math.sign(Math.round(value)) + 1]}${grouped(Math.abs(Math.round(value)))}`;
  const grouped = (value) => (value === Infinity ? "∞" : value.toLocaleString("en"));
  const tenth = (value, most = 1) => `${+value.toFixed(most) < 0 ? "−" : ""}${Math.abs(value) < 100 ? Math.abs(value).toFixed(most) : grouped(Math.abs(Math.round(value)))}`;

  // Noise gains of the plus and the minus converter: one, and a column's conductances over the feedback.
  const noise = () => [2 + Math.floor((rows - 1) / 2) * weight, 1 + Math.ceil((rows - 1) / 2) * weight];
  const amplify = (ideal, n, z) => (ideal + n * (sigma * z + data.at_zero / gain)) / (1 + n / gain);
  const limit = (volt) => (railed ? Math.min(top, Math.max(bottom, volt)) : volt);

  // What each amplifier of a chip puts out, mV from the virtual ground.
  const chain = (which, input) => {
    const z = draws.slice(3 * which, 3 * which + 3), [plus, minus] = noise();
    const out = [limit(amplify(-input, plus, z[0])), limit(amplify(0, minus, z[1]))];
    return [...out, limit(amplify(out[1] - out[0], 2, z[2]))];
  };
  const atRail = (volt) => railed && (volt <= bottom || volt >= top);

  const half = (svg) => { svg.style.flex = "1 1 300px"; svg.style.width = "auto"; return svg; };
  const scheme = half(moving.drawing(400, 250, "")), chart = half(moving.drawing(400, 270, ""));
  const text = (x, y, words, more = {}) => make("svg:text", { x, y, "font-size": 15, ...more }, words);
  const line = (d, style) => make("svg:path", { d, style: `fill:none;stroke:var(--line);stroke-width:1.8;${style ?? ""}` });

  // Where the offset, the voltage and the warning of each amplifier of the drawing stand.
  const AT = [[120, 40, [172, 24], [190, 64], [190, 84]], [120, 210, [172, 236], [190, 196], [190, 176]], [272, 125, [272, 172], [345, 120], [324, 152]]];
  const drawScheme = (z, out) => {
    const n = [...noise(), 2], seen = Math.min(rows, 8), last = 62 + 17 * (seen - 1);
    scheme.replaceChildren(line(`M44 ${last}V40H120M76 62V210H120M164 40H182V112H272M164 210H182V138H272M316 125H340`, "stroke:var(--ink)"));
    for (let row = 0; row < seen; row += 1) {
      const y = 62 + 17 * row;
      scheme.append(line(`M14 ${y}H92`));
      [44, 76].forEach((x, side) => {
        const g = row ? (row % 2 === side ? 0 : weight) : 1 - side;
        scheme.append(make("svg:rect", { x: x - 7, y: y - 7, width: 14, height: 14, style: `fill:color-mix(in srgb, var(--array) ${Math.round(100 * g)}%, var(--paper));stroke:var(--array)` }));
      });
    }
    scheme.append(text(8, 244, rows > seen ? `${seen} of ${rows} rows` : `${rows} row${rows > 1 ? "s" : ""}`, { class: "second" }));
    ["+", "−"].forEach((sign, side) => scheme.append(text(44 + 32 * side + (side ? 0 : -14), 50, sign, { "text-anchor": "middle", "font-size": 18, "font-weight": "bold", style: "fill:var(--array)" })));
    AT.forEach(([x, y, offset, volt, warning], at) => {
      const full = atRail(out[at]), bold = { "font-weight": "bold" }, orange = { style: "fill:var(--device)" };
      scheme.append(
        make("svg:path", { d: `M${x} ${y - 24}V${y + 24}L${x + 44} ${y}Z`, style: `fill:var(--panel);stroke:var(--${full ? "device" : "circuit"});stroke-width:2.4;stroke-linejoin:round` }),
        text(...offset, `${["o⁺", "o⁻", "oₛ"][at]} ${tenth(sigma * z[at])} mV × ${at === 2 ? 2 : tenth(n[at])}`, orange),
        text(...volt, at === 2 ? signed(out[at]) : `${signed(out[at])} mV`, { ...bold, "font-size": at === 2 && Math.abs(out[at]) >= 9999.5 ? 13 : 15 }));
      if (at === 2) scheme.append(text(345, 138, "mV", bold));
      if (full) scheme.append(text(...warning, "at a rail", orange));
    });
    set(scheme, { "aria-label": `Chip ${chip}: converters put out ${signed(out[0])} and ${signed(out[1])} mV, the subtractor ${signed(out[2])} mV` });
  };

  const X = (value) => 222 + (166 * value) / SPAN, Y = (value) => 119 - (107 * value) / 600;
  const curve = (which, step) => {
    const points = [];
    for (let input = -SPAN; input <= SPAN; input += step) points.push(`${X(input).toFixed(1)} ${Y(chain(which, input)[2]).toFixed(1)}`);
    return `M${points.join("L")}`;
  };
  // The output of the chip: a dot, or beyond the plot an arrow at its edge with the value.
  const marker = (x, y, volt) => {
    const style = "fill:var(--device);stroke:var(--paper);stroke-width:1.5";
    if (Math.abs(volt) <= 600) return [make("svg:circle", { cx: x, cy: y, r: 6, style })];
    const edge = volt > 0 ? 13 : 225, back = volt > 0 ? 15 : -15, left = x > 222;
    return [make("svg:path", { d: `M${x} ${edge}l9 ${back}h-18Z`, style }),
      text(x + (left ? -14 : 14), volt > 0 ? 29 : 219, `${signed(volt)} mV`, { "font-weight": "bold", "text-anchor": left ? "end" : "start", style: "paint-order:stroke;stroke:var(--paper);stroke-width:4" })];
  };
  const drawChart = (out, errors) => {
    const frame = { x: 56, y: 12, width: 332, height: 214 }, plot = make("svg:g", { "clip-path": "url(#amplifier-chain-plot)" });
    chart.replaceChildren(make("svg:clipPath", { id: "amplifier-chain-plot" }, make("svg:rect", frame)),
      make("svg:rect", { ...frame, style: "fill:var(--paper);stroke:var(--frame)" }));
    for (const value of [-600, -300, 0, 300, 600])
      chart.append(line(`M56 ${Y(value)}H388`, "stroke:var(--frame);stroke-width:1"), text(50, Y(value) + 5, `${value < 0 ? "−" : ""}${Math.abs(value)}`, { "font-size": 14, "text-anchor": "end", class: "second" }));
    for (const value of [-300, -150, 0, 150, 300])
      chart.append(text(X(value), 243, `${value < 0 ? "−" : ""}${Math.abs(value)}`, { "font-size": 14, "text-anchor": "middle", class: "second" }));
    for (let each = 0; each < data.chips; each += 1) plot.append(line(curve(each, 25), "stroke:var(--device);stroke-width:1;stroke-opacity:0.26"));
    if (railed)
      for (const rail of data.rails) chart.append(line(`M56 ${Y(rail)}H388`, "stroke:var(--circuit);stroke-dasharray:6 4"), text(62, Y(rail) + (rail > 0 ? -5 : 16), "rail", { "font-size": 14, style: "fill:var(--circuit)" }));
    const x = X(signal), perfect = Y(signal), y = Y(out[2]);
    plot.append(line(`M${X(-SPAN)} ${Y(-SPAN)}L${X(SPAN)} ${Y(SPAN)}`, "stroke:var(--ink);stroke-width:2;stroke-dasharray:3 4"),
      line(curve(chip, 10), "stroke:var(--paper);stroke-width:5.5"), line(curve(chip, 10), "stroke:var(--device);stroke-width:3"),
      line(`M${x} ${perfect}V${y}`, "stroke:var(--measured);stroke-width:4"));
    chart.append(plot, ...marker(x, y, out[2]), make("svg:circle", { cx: x, cy: perfect, r: 4, style: "fill:var(--ink)" }),
      text(222, 263, "output of a perfect neuron, mV", { "font-size": 14, "text-anchor": "middle", class: "second" }),
      out[2] < -600 && x > 222 ? text(62, 219, "output, mV", { "font-size": 14, class: "second" }) // off the arrow
        : text(382, 219, "output, mV", { "font-size": 14, "text-anchor": "end", class: "second" }));
    set(chart, { "aria-label": `Output against that of a perfect neuron, a line for each of ${data.chips} chips; at ${signal} mV they are off by ${signed(Math.min(...errors))} to ${signed(Math.max(...errors))} mV` });
  };

  const words = moving.sentence();
  let state = {};
  const draw = () => {
    const n = noise(), all = Array.from({ length: data.chips }, (_, each) => chain(each, signal));
    const errors = all.map((out) => out[2] - signal), out = all[chip];
    const stuck = all.filter((each) => each.some(atRail)).length;
    const spread = moving.spread(errors), predicted = sigma * Math.hypot(...n, 2);
    const [zeroed, minus] = n.slice(0, 2).map((each) => (each * data.at_zero) / gain / (1 + each / gain));
    const still = (minus - zeroed + (2 * data.at_zero) / gain) / (1 + 2 / gain); // a signal of 0, no offsets, no rails
    const slope = 1 / ((1 + n[0] / gain) * (1 + 2 / gain));
    state = { rows, weight, sigma, gain, signal, chip, railed, noise: n, outputs: all, errors, spread, predicted, stuck, slope, still };
    drawScheme(draws.slice(3 * chip, 3 * chip + 3), out);
    drawChart(out, errors);
    const say = (name, told) => make("span", { style: "display:block;margin-bottom:0.3em" }, make("strong", {}, name), ` ${told}`);
    const wide = stuck ? "" : ` (95 % interval ${tenth(0.878 * spread, 0)} to ${mV(1.1617 * spread)})`; // χ² of 99
    words.replaceChildren(
      say("Noise gain", `With ${rows} row${rows > 1 ? "s" : ""} the converters multiply their offsets by ${tenth(n[0])} and ${tenth(n[1])}, the subtractor by 2.`),
      say("Equation", `${sigma} mV × √(${tenth(n[0])}² + ${tenth(n[1])}² + 2²) = ${mV(predicted)}, with perfect gain and no rails.` +
        (Math.abs(still) < 0.5 ? "" : ` A low gain leaves an error even without offsets: with equal inputs an amplifier puts out ${((data.ground + data.at_zero) / 1000).toFixed(4)} V, not ${data.ground / 1000} V. Here that moves the output by ${mV(still)}.`)),
      say(`${data.chips} chips`, `At a signal of ${mV(signal)} they are off by ${mV(moving.mean(errors))} on average. The standard deviation is ${mV(spread)}${wide}: ` +
        `${grouped(Math.round((100 * spread) / SPAN))} % of the span of ${SPAN} mV.${slope < 0.985 ? ` With a gain of ${grouped(gain)} a small signal comes out at ${Math.round(100 * slope)} % of its size.` : ""}` +
        (stuck ? ` On ${stuck} chip${stuck > 1 ? "s" : ""} an amplifier is at a rail, and no longer answers to its inputs.` : "")),
      say(`Chip ${chip}`, `Its output, ${Math.abs(out[2]) > 600 ? "at the arrow" : "the thick line"}, is off by ${signed(errors[chip])} mV.`));
  };
  const mV = (value) => `${tenth(value, 0)} mV`;

  const rails = moving.button("rails", () => { railed = !railed; set(rails, { "aria-pressed": railed }); draw(); });
  set(rails, { "aria-pressed": railed });
  shown.append(
    moving.row(
      moving.slider({ label: "rows", min: 0, max: data.rows.length - 1, step: 1, value: data.rows.indexOf(rows), say: (v) => String(data.rows[v]), change: (v) => { rows = data.rows[v]; draw(); } }),
      moving.slider({ label: "other weights", min: 0.02, max: 0.5, step: 0.02, value: weight, say: (v) => `±${v.toFixed(2)}`, change: (v) => { weight = v; draw(); } }),
      moving.slider({ label: "offset σ", min: 0, max: 30, step: 1, value: sigma, say: mV, change: (v) => { sigma = v; draw(); } }),
      moving.slider({ label: "gain", min: 0, max: gains.length - 1, step: 1, value: gains.indexOf(gain), say: (v) => grouped(gains[v]), change: (v) => { gain = gains[v]; draw(); } }),
      moving.slider({ label: "signal", min: -SPAN, max: SPAN, step: 10, value: signal, say: mV, change: (v) => { signal = v; draw(); } }),
    ),
    moving.buttons(rails, moving.button("another chip", () => { chip = (chip + 1) % data.chips; draw(); })),
    make("div", { style: "display:flex;flex-wrap:wrap;gap:0.5rem 1rem;align-items:center" }, scheme, chart), words,
    moving.note("The first row brings the signal, with a weight of 1. The others rest, with weights of − and + this size in turn. " +
      "With a row for the bias, as here, iris takes 5 rows, digits take 65 and MNIST 785."),
  );
  draw();
  return () => state;
});
