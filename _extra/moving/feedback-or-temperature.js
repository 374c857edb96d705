// Feedback or temperature: which part of a loss makes its gain? A guess first, then what each part gains alone.
moving.define("feedback-or-temperature", (shown, data) => {
  const { make } = moving;
  const NAMES = { ovf: "OVF", irs: "IRS" }, WIDTH = 380, WORDS = ["none", "one", "two", "three", "four", "five"];
  // The axis: from −10 to 80 points, or a quarter of that where all gains fit.
  const widest = ({ gains }) => Math.max(...Object.values(gains).flatMap(({ each }) => each));
  let most = 80;
  let at = data.spreads.findIndex(({ sigma }) => sigma === 0.25), method = "ovf", guess = null, revealed = false;

  // Below the method, those first that ran at every spread.
  const ORDER = ["temperature", "start", "feedback", "passes"];

  // Each part: what is asked, what was trained without the others, and its name in the data.
  const parts = () => ({
    feedback: { asked: "the feedback that it subtracts", tried: `${NAMES[method]} without feedback (β = 0), all else kept`, key: `${method}, β = 0` },
    temperature: { asked: "the division by four, a temperature", tried: "temperature 4 alone: no feedback, one pass", key: "temperature" },
    passes: { asked: "more forward passes a batch", tried: method === "ovf" ? "four passes alone: mean loss of four draws" : "more passes: IRS makes one, as noise alone does", key: method === "ovf" ? "four draws" : null },
    start: { asked: "a last layer that starts smaller", tried: "last layer starts at a quarter, temperature 1", key: "noise, small last layer" },
  });

  const one = (value) => value.toFixed(1).replace("-", "−");
  const counted = (n) => (n === 1 ? "one training" : `n\u00a0=\u00a0${n}`);
  const between = ({ low, high }) => (low === null ? "" : `, 95 % interval ${one(low)} to ${one(high)}`);
  const gained = (found) => `${one(found.mean)} points (${counted(found.n)}${between(found)})`;

  // How a way to train lies to the method, in pairs with the same seed: decided as the ledger decides, within a point.
  const than = (key) => data.spreads[at].than[method][key];
  const enough = (key) => than(key).n >= data.enough && than(key).low > -1;
  const verdict = (key, words) => {
    const { n } = than(key);
    if (enough(key)) return `${words}, within a point. `;
    return `Undecided at this spread${n < data.enough ? `, whatever the interval: the ledger asks for ${WORDS[data.enough]} trainings in pairs, and has ${WORDS[n]}` : ""}. `;
  };

  // Where one of the two has more trainings, its mean is told again, over those that both have.
  const shared = (key) => {
    const { n, mean } = than(key), { gains } = data.spreads[at], own = gains[key], whole = gains[method];
    if (own.n === whole.n) return null;
    return n === whole.n ? { own: whole.mean + mean, whole: whole.mean } : { own: own.mean, whole: own.mean - mean };
  };
  const against = (key) => {
    const found = than(key), { n, mean } = found, both = shared(key), name = NAMES[method];
    if (!n) return "";
    const by = `${one(Math.abs(mean))} points ${mean < 0 ? "less" : "more"}`;
    if (!both) return `Training by training that is ${by} than ${name} (${counted(n)}${between(found)}).`;
    return `Compared with ${name} are the trainings that both have, with the same seeds: ${counted(n)}. ` +
      `Over those it gains ${one(both.own)} points, and ${name} ${one(both.whole)}. That is ${by}${between(found)}.`;
  };
  const elsewhere = (key) => data.spreads.filter(({ gains }) => gains[key].n).map(({ sigma }) => sigma).join(" and ");

  const answers = () => {
    const { gains } = data.spreads[at], name = NAMES[method], { key } = parts()[guess], found = gains[key];
    const alone = `Temperature 4 alone, with no feedback and one pass a batch, gains ${gained(gains.temperature)}. ${against("temperature")}`;
    const lead = (words) => verdict("temperature", words);
    const run = (what, rest) => (found.n ? `${what} gains ${gained(found)}${rest}` : `${what} was not run at this spread, but at σ = ${elsewhere(key)}.`);
    return {
      feedback: () => `The feedback? ${lead("Not needed")}${alone} ` +
        run(`${name} with its feedback taken away, and all else kept,`, "."),
      temperature: () => `The temperature? ${lead("Enough by itself")}${alone}`,
      passes: () => `More passes? ${lead("Not needed")}${alone} ` + (key ?
        run("Training with four passes, and neither feedback nor temperature,", ": undecided.") :
        "IRS, too, makes one pass of the network."),
      start: () => `A smaller start? ${verdict(key, "Enough by itself")}Alone, at temperature 1, ` +
        `it gains ${gained(found)}. ${against(key)} To Adam a temperature of four is this start, and a last layer that learns four times slower.`,
    }[guess]();
  };

  const x = (points) => 12 + ((points / most + 0.125) * (WIDTH - 24)) / 1.125;
  const within = (points) => Math.min(most, Math.max(-most / 8, points));
  const ROW = 46, chart = moving.set(moving.drawing(WIDTH, 5 * ROW + 40, ""), { style: "max-width:500px" });
  const text = (words, attributes) => make("svg:text", { "font-size": 12.5, ...attributes }, words);

  // One way to train: its name, and its trainings below; without `found`, still hidden.
  const row = (number, words, found, colour, picked, none = "") => {
    const y = number * ROW + 14, middle = y + 17;
    for (let points = 0; points <= most && (!found || found.n); points += most / 4)
      chart.append(make("svg:line", { x1: x(points), x2: x(points), y1: middle - 11, y2: middle + 11, style: `stroke:var(--${points ? "frame" : "line"})` }));
    chart.append(text(words, { x: 4, y, style: picked ? "font-weight:bold" : null }));
    if (!found?.n) return chart.append(text(found ? none : "?", { x: x(0) + 8, y: middle + 5, class: "second" }));
    chart.append(text(counted(found.n), { x: WIDTH - 4, y, "text-anchor": "end", class: "second" }));
    for (const value of found.each) chart.append(make("svg:circle", { cx: x(within(value)), cy: middle, r: 4.5, style: `fill:${colour};fill-opacity:0.5` }));
    if (found.low !== null)
      chart.append(make("svg:line", { x1: x(within(found.low)), x2: x(within(found.high)), y1: middle, y2: middle, style: "stroke:var(--ink);stroke-width:2" }));
    if (found.n > 1) chart.append(make("svg:line", { x1: x(found.mean), x2: x(found.mean), y1: middle - 8, y2: middle + 8, style: "stroke:var(--ink);stroke-width:2.5" }));
  };

  const question = moving.sentence(), answer = moving.sentence();
  const radios = Object.entries(parts()).map(([key, { asked }]) => {
    const input = make("input", { type: "radio", name: "moving-part", value: key, onchange: () => { guess = key; draw(); } });
    input.addEventListener("keydown", (event) => event.stopPropagation()); // arrow keys turn pages elsewhere
    return { input, label: make("label", {}, input, asked) };
  });
  const asked = make("fieldset", { class: "moving-options" }, make("legend", {}, "Guess: what makes the gain?"), ...radios.map(({ label }) => label));
  const reveal = moving.button("Show what each part gains", () => { revealed = true; draw(); });
  const again = moving.button("Guess again", () => {
    revealed = false;
    guess = null;
    for (const { input } of radios) input.checked = false;
    draw();
    radios[0].input.focus();
  });

  let state = {};
  const draw = () => {
    const { sigma, noise, gains } = data.spreads[at], whole = gains[method];
    most = widest(data.spreads[at]) > 20 ? 80 : 20;
    state = { sigma, method, guess, revealed, noise: noise.mean, gain: whole.mean };
    if (revealed) state.shared = shared(guess === "start" ? parts().start.key : "temperature");
    if (revealed) state.parts = Object.fromEntries(Object.entries(parts()).map(([name, { key }]) => [name, gains[key] ?? null]));

    chart.replaceChildren();
    for (let points = 0; points <= most; points += most / 4)
      chart.append(text(points, { x: x(points), y: 5 * ROW + 18, "text-anchor": "middle", class: "second" }));
    chart.append(text("points gained over noise alone", { x: WIDTH / 2, y: 5 * ROW + 35, "text-anchor": "middle", class: "second" }));
    row(0, method === "ovf" ? "OVF: feedback, temperature 4, four passes" : "IRS: feedback from heads, temperature 4", whole, "var(--array)", false);
    ORDER.forEach((name, number) => {
      const { tried, key } = parts()[name], picked = name === guess;
      row(number + 1, tried, revealed ? (key ? gains[key] : { n: 0 }) : null, picked ? "var(--measured)" : "var(--circuit)", picked,
        key ? `not run here, but at σ = ${elsewhere(key)}` : "");
    });

    const told = Object.values(parts()).filter(({ key }) => gains[key]?.n).map(({ tried, key }) => `${tried}: ${one(gains[key].mean)}`);
    moving.set(chart, { "aria-label": `Points gained over noise alone, a dot a training. ${NAMES[method]}: ${one(whole.mean)}. ${revealed ? told.join(". ") : "The four others are still hidden"}.` });
    question.textContent = `At σ = ${sigma} a network trained with noise alone has ${one(noise.mean)} % on chips (${counted(noise.n)}). ` +
      `Trained with ${NAMES[method]}, it gains ${gained(whole)}.`;
    answer.textContent = revealed ? answers() : guess ? "Now look." : "Choose one of the four, then look.";
    reveal.disabled = !guess || revealed;
    again.disabled = !revealed;
  };

  shown.append(
    moving.row(
      moving.slider({ label: "spread σ of a cell", min: 0, max: data.spreads.length - 1, step: 1, value: at, say: (to) => String(data.spreads[to].sigma), change: (to) => { at = to; draw(); } }),
      moving.choice({ label: "method", options: { ovf: "OVF, run again", irs: "IRS, inner heads" }, value: method, change: (to) => { method = to; draw(); } }),
    ),
    question, asked, moving.buttons(reveal, again), chart, answer,
    moving.note(`A dot is a training, minus one with noise alone and the same seed. Lines: mean and 95 % interval over trainings. ` +
      "The axis is longer at σ = 0.25 and 0.3."),
  );
  draw();
  return () => state;
});
