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
  let folded = target && target.closest("details:not([open])");
  if (!folded) return;
  for (; folded; folded = folded.parentElement.closest("details")) folded.open = true;
  target.scrollIntoView();
};
addEventListener("DOMContentLoaded", unfold);
addEventListener("hashchange", unfold);
