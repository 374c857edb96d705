// A figure at its full size, at a click or by the keyboard. Without this script its link leads to the image.
(() => {
  const dialog = document.createElement("dialog");
  if (!dialog.showModal) return;
  const close = document.createElement("button");
  const image = document.createElement("img");
  let opener = null;

  dialog.className = "figure-dialog";
  image.className = "dark-light"; // the theme darkens others
  close.type = "button";
  close.textContent = "Close";
  close.autofocus = true;
  dialog.append(close, image);
  document.body.append(dialog);

  const name = (link) => link.closest("figure")?.querySelector(".caption-number")?.textContent.trim() || "Figure";

  const open = (link) => {
    const shown = [...link.querySelectorAll("img")].find((one) => one.getClientRects().length);
    opener = link;
    image.src = shown ? shown.src : link.href; // the wide version, on a phone too
    image.alt = shown ? shown.alt : "";
    dialog.setAttribute("aria-label", `${name(link)}, enlarged`);
    dialog.showModal();
    dialog.scrollTo(0, 0);
  };

  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target !== close) dialog.close();
  });
  dialog.addEventListener("close", () => opener?.focus());

  for (const link of document.querySelectorAll("a.figure-whole")) {
    link.setAttribute("role", "button");
    link.setAttribute("aria-haspopup", "dialog");
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab, as for any link
      event.preventDefault();
      open(link);
    });
    link.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      open(link);
    });
  }
})();
