// A figure or a drawing at its full size, at a click or by the keyboard. Without this script the link of a figure
// leads to its image.
(() => {
  const dialog = document.createElement("dialog");
  if (!dialog.showModal) return;
  const close = document.createElement("button");
  const sheet = document.createElement("div");
  let opener = null;

  dialog.className = "figure-dialog";
  close.type = "button";
  close.textContent = "Close";
  sheet.className = "figure-sheet";
  sheet.tabIndex = 0; // arrow keys scroll it
  sheet.autofocus = true;
  sheet.setAttribute("role", "region");
  dialog.append(close, sheet);
  document.body.append(dialog);

  const name = (whole) => whole.closest("figure")?.querySelector(".caption-number")?.textContent.trim() || "Figure";

  const enlarged = (whole) => {
    const drawing = whole.querySelector("svg.drawing")?.cloneNode(true);
    if (drawing) {
      drawing.removeAttribute("style");
      return drawing;
    }
    const image = document.createElement("img");
    const shown = [...whole.querySelectorAll("img")].find((one) => one.getClientRects().length);
    image.className = "dark-light"; // the theme darkens others
    image.src = shown ? shown.src : whole.href; // the wide version, on a phone too
    image.alt = shown ? shown.alt : "";
    return image;
  };

  const open = (whole) => {
    opener = whole;
    sheet.replaceChildren(enlarged(whole));
    for (const one of [dialog, sheet]) one.setAttribute("aria-label", `${name(whole)}, enlarged`);
    dialog.showModal();
    sheet.scrollTo(0, 0);
  };

  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target !== close) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => event.stopPropagation()); // arrow keys turn pages elsewhere
  dialog.addEventListener("close", () => {
    sheet.replaceChildren(); // names within a drawing are there once
    opener?.focus();
  });

  // A drawing stands in the page; one that a figure that moves has replaced is not there to be enlarged.
  for (const drawing of document.querySelectorAll("svg.drawing")) {
    if (drawing.closest(".moving-replaced")) continue;
    const whole = document.createElement("div");
    whole.className = "figure-whole drawing-whole";
    whole.title = "Enlarge";
    whole.tabIndex = 0;
    whole.style.maxWidth = drawing.style.maxWidth;
    drawing.replaceWith(whole);
    whole.append(drawing);
  }

  for (const whole of document.querySelectorAll(".figure-whole")) {
    whole.setAttribute("role", "button");
    whole.setAttribute("aria-haspopup", "dialog");
    whole.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab, as for any link
      event.preventDefault();
      open(whole);
    });
    whole.addEventListener("keydown", (event) => {
      if (event.key !== " " && (event.key !== "Enter" || whole.href)) return; // Enter clicks a link
      event.preventDefault();
      open(whole);
    });
  }
})();
