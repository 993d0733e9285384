"use strict";
// Hints at what only a script can do show once it runs.
document.documentElement.classList.add("scripted");
// Sorting: a press on a column's head orders the rows by it, numbers first from the highest, what is missing last. In
// a grouped table each row is a body of its own, with the row that it opens to.
function sortBy(head) {
  const table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const numeric = head.querySelector("button").dataset.kind === "number";
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  const direction = head.getAttribute("aria-sort") === first ? second : first;
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const grouped = table.classList.contains("grouped");
  const value = (row) => (grouped ? row.rows[0] : row).children[column].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
  };
  const place = grouped ? table : table.tBodies[0];
  place.append(...[...(grouped ? table.tBodies : place.rows)].sort(compare));
}
for (const button of document.querySelectorAll("table.sortable thead button"))
  button.addEventListener("click", () => sortBy(button.closest("th")));
// Paper cannot be opened: what is closed on screen is printed open, and closed again after.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
