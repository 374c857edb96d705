// What the theme leaves without a name gets one: parts of the contents that open, lists that hold no items.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("nav summary"))
    if (!summary.textContent.trim())
      summary.setAttribute("aria-label", `Pages of ${summary.closest("li").querySelector("a").textContent.trim()}`);
  for (const list of document.querySelectorAll(".citation-list[role=list]"))
    for (const item of list.children) item.setAttribute("role", "listitem");
});

// What an address or a link points at is shown, though it lies in something folded.
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folds = target ? [...document.querySelectorAll("details:not([open]), .toggle-hidden")] : [];
  const around = folds.filter((fold) => fold.contains(target));
  for (const fold of around) {
    if (fold.tagName === "DETAILS") fold.open = true;
    else fold.querySelector("button.toggle-button")?.click();
  }
  if (around.length) target.scrollIntoView();
};
addEventListener("load", unfold); // when what folds has been folded
addEventListener("hashchange", unfold);

// Paper is white.
addEventListener("beforeprint", () => {
  const { dataset } = document.documentElement;
  const shown = dataset.theme;
  dataset.theme = "light";
  addEventListener("afterprint", () => (dataset.theme = shown), { once: true });
});

// Arrow keys scroll what can be scrolled sideways, before they turn the page.
addEventListener("keydown", (event) => {
  const sideways = ["ArrowLeft", "ArrowRight"].includes(event.key);
  if (sideways && event.target.scrollWidth > event.target.clientWidth + 1) event.stopPropagation();
}, true);
