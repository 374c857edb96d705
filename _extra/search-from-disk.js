// Excerpts of the pages found: a browser fetches no page from disk, so their texts came with this one.
window.fetch = (address) => {
  Search.htmlToText = (text) => text;
  Search.makeSearchSummary = excerpt;
  const page = new URL(address, document.baseURI).href.slice(new URL(".", document.baseURI).href.length);
  return Promise.resolve({ text: () => Promise.resolve(SEARCH_TEXTS[decodeURIComponent(page)]) });
};

// An excerpt begins where a word that was asked for begins: "VeRA" is not in "several".
const excerpt = (text) => {
  const asked = (new URLSearchParams(location.search).get("q") || "").trim().split(/\s+/);
  const words = asked.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const places = words.map((word) => text.search(new RegExp(`(?<![\\p{L}\\d])${word}`, "iu")));
  const start = Math.max(Math.min(...places.filter((place) => place >= 0)) - 120, 0);
  const from = Number.isFinite(start) ? start : 0;
  const shown = text.slice(from, from + 240);
  return Object.assign(document.createElement("p"), { className: "context", textContent: `…${shown}…` });
};

// Numbers are in no index: the texts are searched for them here, and the scoreboard knows those of the claims.
document.addEventListener("DOMContentLoaded", () => {
  const asked = (new URLSearchParams(location.search).get("q") || "").trim();
  if (!/\d/.test(asked)) return;
  const written = [asked, asked.replace(/(\d),(\d)/g, "$1.$2")]; // as people write it, and as it stands here
  const made = (kind, content = "", address = "") =>
    Object.assign(document.createElement(kind), { textContent: content }, address && { href: address });
  const found = made("section");
  found.id = "search-numbers";
  const claims = made("p", "In the text as it stands, and ");
  const query = new URLSearchParams({ text: asked });
  claims.append(made("a", `among the claims of the scoreboard`, `chapters/scoreboard.html?${query}`), ":");
  const list = made("ul");
  for (const [page, text] of Object.entries(SEARCH_TEXTS)) {
    const number = written.find((one) => text.includes(one));
    if (!number || page.startsWith("pages/api")) continue;
    const item = made("li");
    const place = text.indexOf(number);
    const there = `${page}#:~:text=${encodeURIComponent(number)}`;
    item.append(made("a", SEARCH_TITLES[page], there), made("p", `…${text.slice(Math.max(place - 90, 0), place + 110)}…`));
    list.append(item);
  }
  found.append(claims, list);
  document.getElementById("search-results").before(found);
});
