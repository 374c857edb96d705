// Excerpts of the pages found: a browser fetches no page from disk, so their texts came with this one.
window.fetch = (address) => {
  Search.htmlToText = (text) => text;
  const page = new URL(address, document.baseURI).href.slice(new URL(".", document.baseURI).href.length);
  return Promise.resolve({ text: () => Promise.resolve(SEARCH_TEXTS[decodeURIComponent(page)]) });
};

// Numbers are in no index; the scoreboard knows those of the claims.
document.addEventListener("DOMContentLoaded", () => {
  const asked = new URLSearchParams(location.search).get("q") || "";
  if (!/\d/.test(asked)) return;
  const line = document.createElement("p");
  const link = document.createElement("a");
  link.href = `chapters/scoreboard.html?${new URLSearchParams({ text: asked })}`;
  link.textContent = `look for ${asked} among the claims`;
  line.append("Numbers are not searched for here: ", link, ".");
  document.getElementById("search-results").before(line);
});
