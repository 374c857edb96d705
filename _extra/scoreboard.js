// The scoreboard's filters. What they say stands in the address, so that a view can be linked to. Plain, and
// without fetching anything: a page from disk may not.
(() => {
  "use strict";
  const form = document.getElementById("scoreboard-filters");
  const stored = document.getElementById("scoreboard-data");
  if (!form || !stored) return;
  const claims = JSON.parse(stored.textContent);
  const known = new Map(claims.map((claim, place) => [claim.id, { ...claim, place, text: words(claim) }]));
  const body = document.querySelector(".board-list tbody");
  const lines = [...body.rows];
  const dots = [...document.querySelectorAll(".claim-dot[data-id]")];
  const parts = document.querySelectorAll("ul.board li, .board-own"); // hidden where nothing in them fits
  const output = form.querySelector("output");
  const more = document.createElement("button"); // shows the lines beyond the first few
  const few = 25;
  let all = lines.length <= few;
  const exact = ["verdict", "source", "scale", "chapter"];
  const verdicts = [...form.elements.verdict.options].map((option) => option.value);
  const orders = {
    chapter: (a, b) => a.place - b.place,
    verdict: (a, b) => verdicts.indexOf(a.verdict) - verdicts.indexOf(b.verdict),
    paper: (a, b) => a.paper.localeCompare(b.paper),
    turned: (a, b) => (b.turned ?? 1) - (a.turned ?? 1),
  };

  function words(claim) {
    const name = form.querySelector(`[name=chapter] option[value="${claim.chapter}"]`).textContent;
    const said = [claim.statement, claim.paper, claim.id, claim.where, claim.verdict, claim.cause, claim.authors, name];
    return plain(said.join(" "));
  }

  // as people write it: a comma for a point, a real minus, quotes, a per cent sign
  function plain(text) {
    return text.toLowerCase().replace(/(\d),(\d)/g, "$1.$2").replace(/[−–]/g, "-").replace(/["“”%]/g, "")
      .replace(/\bet al\b\.?/g, "").replace(/\bsigma\b/g, "σ").trim();
  }

  function wished() {
    return Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
  }

  function fits(claim, wish) {
    const asked = plain(wish.text).split(/\s+/);
    return exact.every((name) => !wish[name] || claim[name] === wish[name])
      && asked.every((word) => claim.text.includes(word));
  }

  function show() {
    const wish = wished();
    let count = 0;
    let own = 0;
    for (const line of lines) {
      line.hidden = !fits(known.get(line.dataset.id), wish);
      count += !line.hidden;
      own += !line.hidden && !known.get(line.dataset.id).counted;
    }
    for (const dot of dots) dot.hidden = !fits(known.get(dot.dataset.id), wish);
    for (const part of parts) part.hidden = !part.querySelector(".claim-dot:not([hidden])");
    const order = orders[wish.sort] || orders.chapter;
    const of = (line) => known.get(line.dataset.id);
    const sorted = lines.toSorted((a, b) => order(of(a), of(b)) || of(a).place - of(b).place);
    body.append(...sorted);
    const whole = all || Boolean(wish.text) || exact.some((name) => wish[name]);
    sorted.forEach((line, at) => line.classList.toggle("beyond", !whole && at >= few));
    more.hidden = whole;
    const hint = count ? "" : ": ask for less, or Clear";
    const ours = own ? `, ${own} of them this book's own` : "";
    output.textContent = `${count} of ${claims.length} claims${ours}${hint}`;
    return wish;
  }

  function remember(wish) {
    const kept = Object.entries(wish).filter(([name, value]) => value && !(name === "sort" && value === "chapter"));
    const query = new URLSearchParams(kept).toString();
    try {
      history.replaceState(null, "", location.pathname + (query ? `?${query}` : "") + location.hash);
    } catch {
      // a browser that lets no page from disk change its address: the filters work without
    }
  }

  function recall() {
    const names = [...form.elements].map((field) => field.name).filter(Boolean);
    for (const [name, value] of new URLSearchParams(location.search)) {
      const field = names.includes(name) && form.elements[name];
      if (field && (!field.options || [...field.options].some((option) => option.value === value))) {
        field.value = value;
      }
    }
  }

  more.type = "button";
  more.textContent = `Show all ${lines.length} claims`;
  more.addEventListener("click", () => {
    all = true;
    show();
    body.rows[few].querySelector("a").focus();
  });
  document.querySelector(".board-list").append(more);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => remember(show()));
  form.addEventListener("reset", () => setTimeout(() => remember(show())));
  form.hidden = false;
  recall();
  show();
  if (location.search && innerWidth < 720) document.querySelector(".board-list").scrollIntoView();
})();
