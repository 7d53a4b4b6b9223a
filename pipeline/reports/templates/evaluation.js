"use strict";
const items = [...document.querySelectorAll("details.item")];
const search = document.getElementById("search"), shown = document.getElementById("shown");
const filters = [...document.querySelectorAll("select[data-filter]")];
function apply() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const item of items) {
    const fits = words.every(word => item.dataset.words.includes(word)) &&
      filters.every(filter => !filter.value || (" " + item.getAttribute("data-" + filter.dataset.filter) + " ").includes(" " + filter.value + " "));
    item.hidden = !fits;
    count += fits;
  }
  shown.textContent = count + " of " + items.length + " items";
}
search.addEventListener("input", apply);
filters.forEach(filter => filter.addEventListener("change", apply));
document.getElementById("find").hidden = false;
apply();
