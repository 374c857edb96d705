// Makes the page ready for paper, and says what is wrong with it there: a list of sentences, empty if nothing is.
async ([height, smallest, scale]) => {
  // everything is open; a link leads to its place in the book, to another machine, or nowhere
  if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
  document.documentElement.dataset.theme = "light";
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  for (const page of document.querySelectorAll("[id^='document-'] + section")) page.style.breakBefore = "page";
  for (const left of document.querySelectorAll("img[src*='badges/'], a.headerlink")) left.remove();
  for (const link of document.querySelectorAll("a[href]")) {
    const to = new URL(link.href);
    if (to.protocol !== "file:") continue;
    const page = "document-" + to.pathname.split("/").slice(-2).join("/").replace(/\.html$/, "");
    const place = [decodeURIComponent(to.hash.slice(1)), page, page.replace(/-.*\//, "-")];
    const known = place.find((name) => name && document.getElementById(name));
    if (known) link.setAttribute("href", "#" + known);
    else link.replaceWith(...link.childNodes);
  }

  const wrong = [];
  const name = (e) => `${e.tagName.toLowerCase()}.${[...e.classList].join(".")} "${e.textContent.trim().slice(0, 50)}"`;
  const shown = (e) => e.getClientRects().length;
  for (const image of document.images) {
    if (shown(image) && !image.naturalWidth) wrong.push(`no image at ${image.src}`);
    else if (shown(image) && !/\.svg$|^data:image\/svg/.test(image.src)) wrong.push(`no drawing: ${image.src.slice(0, 80)}`);
  }
  for (const maths of document.querySelectorAll("div.math")) {
    if (!maths.querySelector("mjx-container")) wrong.push(`not typeset: ${name(maths)}`);
    if (getComputedStyle(maths).breakInside !== "avoid") wrong.push(`may be torn: ${name(maths)}`);
    if (maths.getBoundingClientRect().height > height) wrong.push(`higher than a page: ${name(maths)}`);
  }
  for (const code of document.querySelectorAll("pre"))
    if (shown(code) && 0.75 * scale * parseFloat(getComputedStyle(code).fontSize) < smallest) wrong.push(`too small: ${name(code)}`);
  for (const e of document.querySelectorAll("pre, table, figure, svg, img, div.math, .claim")) {
    const box = e.getBoundingClientRect();
    if (shown(e) && (box.right > innerWidth + 1 || (e.scrollWidth > e.clientWidth + 1 && e.clientWidth)))
      wrong.push(`${Math.round(Math.max(box.right, e.scrollWidth))} px wide on ${innerWidth}: ${name(e)}`);
  }
  return wrong;
}
