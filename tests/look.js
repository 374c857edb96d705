// What is wrong with the page as it is laid out now: a list of sentences, empty if nothing is.
() => {
  const wrong = [];
  const name = (e) => `${e.tagName.toLowerCase()}.${[...e.classList].join(".")} "${e.textContent.trim().slice(0, 40)}"`;
  const width = document.scrollingElement.scrollWidth;
  if (width > innerWidth + 1) {
    const scrolls = (e) => e && (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
    const out = [...document.querySelectorAll("main *")].filter(
      (e) => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement.closest("main *")),
    );
    wrong.push(`the page is ${width} px wide in a window of ${innerWidth}: ${out.slice(0, 3).map(name).join(", ")}`);
  }
  for (const image of document.images)
    if (image.getClientRects().length && image.complete && !image.naturalWidth) wrong.push(`no image at ${image.src}`);
  for (const maths of document.querySelectorAll(".math"))
    if (!maths.querySelector("mjx-container")) wrong.push(`not typeset: ${name(maths)}`);
  for (const error of document.querySelectorAll("mjx-merror")) wrong.push(`not understood: ${name(error)}`);
  // what is cut off must show an edge: a shadow that is there only while something lies beyond it
  for (const e of document.querySelectorAll("main *:not(mjx-container *)")) {
    const style = getComputedStyle(e);
    if (style.overflowX === "visible" || !e.clientWidth || e.scrollWidth <= e.clientWidth + 1) continue;
    if (e.closest(".sd-stretched-link, .visually-hidden, svg")) continue;
    const opaque = (part) => getComputedStyle(part).backgroundColor.startsWith("rgb(");
    const covered = [...e.querySelectorAll("thead, tr, th, td")].some(opaque);
    if (style.overflowX === "hidden" || !style.backgroundAttachment.includes("local") || covered)
      wrong.push(`cut at ${e.clientWidth} of ${e.scrollWidth} px without an edge: ${name(e)}`);
  }
  return wrong;
}
