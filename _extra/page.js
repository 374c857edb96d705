// What the theme leaves without a name gets one: parts of the contents that open, lists that hold no items.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("nav summary"))
    if (!summary.textContent.trim())
      summary.setAttribute("aria-label", `Pages of ${summary.closest("li").querySelector("a").textContent.trim()}`);
  for (const list of document.querySelectorAll(".citation-list[role=list]"))
    for (const item of list.children) item.setAttribute("role", "listitem");
});
