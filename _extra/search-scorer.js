// What a reader looks for stands in a chapter first, in a page next, and in a list of functions last.
const Scorer = {
  score: ([name, title, anchor, descr, score]) =>
    score + (descr ? -20 : 0) + (name.startsWith("chapters/") ? 40 : name.startsWith("pages/api") ? 0 : 20),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
