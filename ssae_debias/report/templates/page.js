"use strict";
// Hints at what only a script can do show once it runs.
document.documentElement.classList.add("scripted");
// Sorting: a press on a column's head orders the rows by it, numbers first from the highest.
for (const button of document.querySelectorAll("table.sortable thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const numeric = button.dataset.kind === "number";
    const first = numeric ? "descending" : "ascending";
    const second = numeric ? "ascending" : "descending";
    const direction = head.getAttribute("aria-sort") === first ? second : first;
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const value = (row) => row.children[column].dataset.value;
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) =>
      sign * (numeric ? value(a) - value(b) : value(a).localeCompare(value(b))));
    body.append(...rows);
  });
}
// Paper cannot be opened: what is closed on screen is printed open, and closed again after.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
