// What a reader looks for stands in a chapter first, in a page next, and in a list of names last; and
// where it stands often. SEARCH_TEXTS came with the search page.
var Scorer = {
  score: ([name, title, anchor, descr, score]) => {
    const asked = new URLSearchParams(location.search).get("q").trim().toLowerCase();
    const words = asked.split(/\s+/);
    const text = (SEARCH_TEXTS[`${name}.html`] || "").toLowerCase();
    const often = words.map((word) => text.split(word).length - 1).map((n) => n / (n + 30));
    const last = name === "chapters/notation" || name.startsWith("pages/api"); // lists of names
    const place = last ? 0 : name.startsWith("chapters/") ? 40 : 20;
    const titled = !anchor && title.toLowerCase().includes(asked) ? 60 : 0;
    const term = anchor.startsWith("#term-") ? 100 : 0; // an entry of the glossary
    return score - term + place + titled + 40 * Math.min(...often) - (descr ? 20 : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
