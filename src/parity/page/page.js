// Finding one among many differences; the page is complete without it.
(() => {
  const form = document.querySelector("form.filter");
  const rows = [...document.querySelectorAll("#differences .row")];
  if (!form || rows.length < 2) return;
  const input = form.querySelector("input");
  const output = form.querySelector("output");
  const groups = [...document.querySelectorAll("#differences .slice")];
  const texts = rows.map((row) => {
    const slice = row.closest(".slice");
    const place = slice ? slice.querySelector("h3").textContent : "";
    const kind = (row.closest("ul") || row).className;
    return `${place} ${kind} ${row.textContent}`.toLowerCase();
  });
  const filter = () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row, at) => {
      row.hidden = !texts[at].includes(wanted);
      if (!row.hidden) shown += 1;
    });
    groups.forEach((group) => {
      group.hidden = wanted !== "" && !group.querySelector(".row:not([hidden])");
    });
    output.textContent = wanted === "" ? "" : `${shown} of ${rows.length}`;
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", filter);
  form.hidden = false;
})();
